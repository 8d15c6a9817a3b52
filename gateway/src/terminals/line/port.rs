//! The serial port itself: opening it, whatever its path is a link to now, and writing with an end.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio_serial::{ClearBuffer, SerialPort, SerialPortBuilderExt, SerialStream};

/// A port that takes no bytes for this long is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the port, 8N1. What was received before is of no use.
pub(super) async fn open(path: &Path, baud: u32) -> Result<SerialStream, tokio_serial::Error> {
    let resolved = tokio::fs::canonicalize(path).await?;
    let port = tokio_serial::new(resolved.to_string_lossy(), baud).open_native_async()?;
    port.clear(ClearBuffer::Input)?;
    Ok(port)
}

/// Writes all of it or fails.
pub(super) async fn write(port: &mut SerialStream, bytes: &[u8]) -> std::io::Result<()> {
    tokio::time::timeout(WRITE_TIMEOUT, port.write_all(bytes)).await?
}

/// Bytes that arrived; a port that ends is gone.
pub(super) fn arrived(buffer: &[u8], read: std::io::Result<usize>) -> std::io::Result<&[u8]> {
    match read? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        count => Ok(&buffer[..count]),
    }
}
