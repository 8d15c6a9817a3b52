//! Runs a program under strace, which writes down every call that can change a file.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every call that can change a file, give one another number, or escape from being seen.
const TRACED: &str = "?open,openat,openat2,?creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,\
    sync_file_range,sync,syncfs,msync,?rename,?renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,\
    ?mkdir,mkdirat,?mknod,mknodat,truncate,ftruncate,fallocate,close,close_range,dup,?dup2,dup3,fcntl,lseek,\
    copy_file_range,sendfile,splice,vmsplice,tee,mmap,io_uring_setup,io_setup,clone,clone3,?fork,?vfork,chdir,fchdir";

/// Whether programs can be traced here; if not, why.
pub fn unavailable() -> Option<String> {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::piped()).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("strace does not start: {error}")),
    }
}

/// Runs `program`, which works on `data` and marks in `marks`, and writes its calls to `trace`.
pub fn run(program: &Command, trace: &Path) -> io::Result<()> {
    let mut strace = Command::new("strace");
    strace.args(["--seccomp-bpf", "-f", "-y", "-xx", "-s", "2097152", "-e", "signal=SIGSEGV,SIGBUS", "-e"]);
    strace.arg(format!("trace={TRACED}")).arg("-o").arg(trace).arg("--");
    let output = strace.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("the workload under strace ended with {}: {said}", output.status)))
}
