//! A file on the emulator's host. The emulator is started with `-semihosting-config enable=on,target=native,arg=fw,arg=FILE`.
//!
//! Each write is one write on the host, so killing the emulator is a power cut between two of them.

use core::ffi::c_void;

const OPEN: usize = 0x01;
const WRITE: usize = 0x05;
const READ: usize = 0x06;
const SEEK: usize = 0x0A;
const GET_CMDLINE: usize = 0x15;
/// `r+b`.
const READ_AND_WRITE: usize = 3;

/// An open file.
pub struct File(usize);

impl File {
    /// The file whose name is the last word of the command line; it must be there.
    pub fn of_command_line() -> Option<File> {
        let mut line = [0_u8; 256];
        let mut block = [line.as_mut_ptr() as usize, line.len()];
        if call(GET_CMDLINE, &mut block) != 0 {
            return None;
        }
        let length = line.iter().position(|byte| *byte == 0)?;
        let from = line[..length].iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let mut block = [line[from..].as_ptr() as usize, READ_AND_WRITE, length - from];
        let handle = call(OPEN, &mut block);
        (handle >= 0).then_some(File(handle as usize))
    }

    /// Reads all of it from there.
    pub fn read(&mut self, at: usize, into: &mut [u8]) -> Option<()> {
        self.seek(at)?;
        let left = call(READ, &mut [self.0, into.as_mut_ptr() as usize, into.len()]);
        (left == 0).then_some(())
    }

    /// Writes all of it to there.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.seek(at)?;
        let left = call(WRITE, &mut [self.0, bytes.as_ptr() as usize, bytes.len()]);
        (left == 0).then_some(())
    }

    fn seek(&mut self, at: usize) -> Option<()> {
        (call(SEEK, &mut [self.0, at]) == 0).then_some(())
    }
}

/// Asks the debugger that plays the host. Without one, the breakpoint is a fault: only for the emulator.
#[allow(unsafe_code, reason = "semihosting is a breakpoint with its question in two registers")]
fn call(what: usize, block: &mut [usize]) -> isize {
    let block: *mut c_void = block.as_mut_ptr().cast();
    let answer;
    // SAFETY: the host reads the block and writes only into the buffers that it names, which outlive the call.
    unsafe {
        core::arch::asm!("bkpt 0xAB", inout("r0") what as isize => answer, in("r1") block, options(nostack));
    }
    answer
}
