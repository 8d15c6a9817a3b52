//! Reads what `strace -f -y -xx` writes: one call after the other, as they returned.

use std::collections::HashMap;
use std::io::{self, BufRead};

/// One system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    pub args: Vec<String>,
    /// What it returned; negative for an error.
    pub returned: i64,
    /// Lines of the trace at which it was called and had returned.
    pub begin: usize,
    pub end: usize,
}

/// Calls of a program's threads in order of their return; a `close` stands where it was called, for from then on another
/// thread may get its number.
pub struct Trace<R> {
    lines: R,
    line: usize,
    /// By thread: what it has called.
    unfinished: HashMap<String, (usize, String)>,
}

impl<R: BufRead> Trace<R> {
    pub fn new(lines: R) -> Trace<R> {
        Trace { lines, line: 0, unfinished: HashMap::new() }
    }

    /// The next call, or `None` at the end.
    pub fn next_call(&mut self) -> io::Result<Option<Call>> {
        let mut text = String::new();
        loop {
            text.clear();
            if self.lines.read_line(&mut text)? == 0 {
                return self.check_end();
            }
            self.line += 1;
            if let Some(call) = self.call(text.trim_end())? {
                return Ok(Some(call));
            }
        }
    }

    /// Lines read so far.
    pub fn length(&self) -> usize {
        self.line
    }

    fn check_end(&self) -> io::Result<Option<Call>> {
        let unfinished = self.unfinished.values().find(|(_, text)| !text.starts_with("close("));
        match unfinished {
            Some((line, text)) => Err(broken(*line, text, "never returned")),
            None => Ok(None),
        }
    }

    fn call(&mut self, text: &str) -> io::Result<Option<Call>> {
        let line = self.line;
        let Some((thread, rest)) = text.split_once(' ') else {
            return Err(broken(line, text, "is no line of a trace"));
        };
        let rest = rest.trim_start();
        if rest.starts_with("+++") {
            return Ok(None);
        }
        if rest.starts_with("---") {
            return Err(broken(line, text, "is a signal"));
        }
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            let begun = begun.trim_end().to_owned();
            let close = begun.starts_with("close(").then(|| parse(&format!("{begun}) = 0"), line, line));
            self.unfinished.insert(thread.to_owned(), (line, begun));
            return close.transpose();
        }
        let Some(resumed) = rest.strip_prefix("<... ") else { return parse(rest, line, line).map(Some) };
        let tail = resumed.split_once(" resumed>").map(|(_, tail)| tail);
        let (Some(tail), Some((begin, begun))) = (tail, self.unfinished.remove(thread)) else {
            return Err(broken(line, text, "returns from nothing"));
        };
        if begun.starts_with("close(") {
            return Ok(None);
        }
        parse(&format!("{begun}{tail}"), begin, line).map(Some)
    }
}

fn parse(text: &str, begin: usize, end: usize) -> io::Result<Call> {
    let broken = || broken(end, text, "is no call");
    let (call, returned) = text.rsplit_once(" = ").ok_or_else(broken)?;
    let (name, args) = call.trim_end().strip_suffix(')').and_then(|call| call.split_once('(')).ok_or_else(broken)?;
    let number = returned.split([' ', '<']).next().unwrap_or_default();
    let returned = match number {
        "?" => -1,
        number => number_of(number).ok_or_else(broken)?,
    };
    Ok(Call { name: name.to_owned(), args: split(args), returned, begin, end })
}

fn number_of(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|number| number as i64),
        None => text.parse().ok(),
    }
}

/// Splits arguments at their commas, but not inside structures. Strings are hexadecimal and hold neither.
fn split(args: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for character in args.chars() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut()
            && !(part.is_empty() && character == ' ')
        {
            part.push(character);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

impl Call {
    pub fn error(&self, why: &str) -> io::Error {
        let args: String = self.args.join(", ").chars().take(200).collect();
        io::Error::other(format!("line {} of the trace: {}({args}): {why}", self.end, self.name))
    }

    fn arg(&self, index: usize) -> io::Result<&str> {
        self.args.get(index).map(String::as_str).ok_or_else(|| self.error("has too few arguments"))
    }

    pub fn flags(&self, index: usize) -> io::Result<Vec<&str>> {
        Ok(self.arg(index)?.split('|').collect())
    }

    pub fn number(&self, index: usize) -> io::Result<u64> {
        let number = number_of(self.arg(index)?).and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| self.error("has no number where one belongs"))
    }

    /// A descriptor's number and the path that strace knows it by; no number for the current directory.
    pub fn descriptor(&self, index: usize) -> io::Result<(Option<i32>, Option<String>)> {
        let arg = self.arg(index)?;
        let (number, rest) = arg.split_once('<').unwrap_or((arg, ""));
        let path = rest.rsplit_once('>').and_then(|(path, _)| unhex(path));
        Ok((number.parse().ok(), path.and_then(|path| String::from_utf8(path).ok())))
    }

    /// The bytes of a string, whole.
    pub fn bytes(&self, index: usize) -> io::Result<Vec<u8>> {
        let text = self.arg(index)?.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        text.and_then(unhex).ok_or_else(|| self.error("has no whole string where one belongs"))
    }

    pub fn path(&self, index: usize) -> io::Result<String> {
        String::from_utf8(self.bytes(index)?).map_err(|_| self.error("has a path that is no text"))
    }
}

/// `\x2f\x74` to bytes.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split("\\x").collect();
    if digits.len() * 2 != text.len() {
        return None;
    }
    hex::decode(digits).ok()
}

fn broken(line: usize, text: &str, why: &str) -> io::Error {
    let text: String = text.chars().take(200).collect();
    io::Error::other(format!("line {line} of the trace {why}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(text: &str) -> io::Result<Vec<Call>> {
        let mut trace = Trace::new(text.as_bytes());
        let mut calls = Vec::new();
        while let Some(call) = trace.next_call()? {
            calls.push(call);
        }
        Ok(calls)
    }

    #[test]
    fn calls_come_as_they_return_and_closes_as_they_are_called() {
        let text = "\
7 write(3<\\x2f\\x61>, \"\\x7a\\x7a\", 2 <unfinished ...>
8 close(4<\\x2f\\x62> <unfinished ...>
9 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x63\", O_RDWR|O_CREAT, 0666) = 4<\\x2f\\x63>
8 <... close resumed>)              = 0
7 <... write resumed>)              = 1
7 mkdir(\"\\x2f\", 0777) = -1 EEXIST (File exists)
7 +++ exited with 0 +++
";
        let calls = calls(text).unwrap();
        let seen: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.returned, call.begin, call.end)).collect();
        assert_eq!(seen, [("close", 0, 2, 2), ("openat", 4, 3, 3), ("write", 1, 1, 5), ("mkdir", -1, 6, 6)]);
        assert_eq!(calls[0].descriptor(0).unwrap(), (Some(4), Some("/b".to_owned())));
        assert_eq!(calls[1].descriptor(0).unwrap(), (None, Some("/".to_owned())));
        assert_eq!((calls[1].path(1).unwrap().as_str(), calls[1].flags(2).unwrap()), ("/c", vec!["O_RDWR", "O_CREAT"]));
        assert_eq!((calls[2].bytes(1).unwrap(), calls[2].number(2).unwrap()), (b"zz".to_vec(), 2));
    }

    #[test]
    fn structures_stay_together_and_addresses_are_numbers() {
        let call = parse("clone3({flags=CLONE_VM|CLONE_FILES, stack=0x7f}, 88) = 5", 1, 1).unwrap();
        assert_eq!(call.args, ["{flags=CLONE_VM|CLONE_FILES, stack=0x7f}", "88"]);
        assert_eq!(parse("mmap(NULL, 8) = 0x7fd40e1ff000", 1, 1).unwrap().returned, 0x7fd4_0e1f_f000);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(calls("7 write(3, \"\\x7a\", 1 <unfinished ...>\n").is_err(), "it never returned");
        assert!(calls("7 <... write resumed>) = 1\n").is_err());
        assert!(calls("7 --- SIGBUS {} ---\n").is_err());
        assert!(calls("nonsense\n").is_err());
        let cut = calls("7 write(3, \"\\x7a\"..., 900) = 900\n").unwrap();
        assert!(cut[0].bytes(1).is_err(), "strace did not write the whole string");
    }
}
