//! Serial lines: the shell that opens, reads, writes and reopens a port, and the cores that speak its protocol.
//!
//! `reader` is the controller of our own readers, which keep their punches until told; `swipes` takes readers that only
//! send. Both are cores without I/O; `polling` and `listening` are their shells.

pub mod ascii;
mod commands;
mod cursor;
pub mod dating;
mod feedback;
mod listening;
mod listing;
pub mod origin;
pub mod pairing;
mod polling;
mod port;
pub mod rdm6300;
pub mod reader;
mod registered;
mod report;
mod station;
mod suspicion;
pub mod swipes;
mod update;

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use protocol::{Address, Key};
use tokio::sync::mpsc;
use tokio_serial::SerialStream;
use tokio_util::sync::CancellationToken;

use self::dating::Moment;
use self::listening::Listening;
use self::origin::Origin;
use self::polling::Polling;
use self::reader::{Controller, Stationed};
use self::report::Report;
use self::swipes::{Module, Swipes};
use super::Context;
use super::hub::{OrderSlip, Terminal};
use crate::clock::Clock;
use crate::config::{Line, LineProtocol, LineTerminal};

const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const MAX_BACK_OFF: Duration = Duration::from_secs(30);
/// A port that was open this long is tried again soon when it goes.
const STEADY: Duration = Duration::from_secs(5);
/// Orders that wait for one line.
const ORDERS: usize = 16;

/// Serves one line until `shutdown`. A port that is not there is an alarm, tried again with back-off, and no end.
pub async fn run(line: Line, context: Context, shutdown: CancellationToken) -> Result<(), Infallible> {
    let report = Report {
        ops: context.ops.clone(),
        clock: context.clock.clone(),
        line: line.path.display().to_string(),
        protocol: line.protocol.as_str(),
    };
    let links = introduce(&line, &context, &report);
    let mut served = Served::new(&line, &context, &report, links.orders);
    let mut back_off = FIRST_BACK_OFF;
    while !shutdown.is_cancelled() {
        let opened_at = context.clock.instant();
        let outcome = match port::open(&line.path, line.baud).await {
            Ok(port) => {
                report.line_up();
                served.serve(port, &shutdown).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let Err(cause) = outcome else { break };
        report.line_down(&cause);
        if context.clock.instant().saturating_duration_since(opened_at) >= STEADY {
            back_off = FIRST_BACK_OFF;
        }
        served.wait(back_off, &shutdown).await;
        back_off = (back_off * 2).min(MAX_BACK_OFF);
    }
    served.finish().await;
    for terminal in &line.terminals {
        context.hub.detach(&terminal.serial, &links.sender);
    }
    Ok(())
}

/// Where orders for this line's terminals come in.
struct Links {
    sender: mpsc::Sender<OrderSlip>,
    orders: mpsc::Receiver<OrderSlip>,
}

/// Makes the line's terminals known: to the board, and where they can take orders to the hub.
fn introduce(line: &Line, context: &Context, report: &Report) -> Links {
    let (sender, orders) = mpsc::channel(ORDERS);
    for terminal in &line.terminals {
        report.expected(&origin(terminal));
        context.hub.adopt(Terminal {
            id: terminal.id.clone(),
            protocol: line.protocol.as_str().to_owned(),
            serial: terminal.serial.clone(),
            direction: terminal.direction,
            password: None,
        });
        if line.protocol == LineProtocol::Reader {
            context.hub.attach(&terminal.serial, sender.clone());
        }
    }
    Links { sender, orders }
}

/// What is on the line.
enum Served {
    Readers(Box<Polling>),
    Sender(Box<Listening>),
    /// No terminal is configured.
    Nothing,
}

impl Served {
    fn new(line: &Line, context: &Context, report: &Report, orders: mpsc::Receiver<OrderSlip>) -> Served {
        let module = match line.protocol {
            LineProtocol::Reader => {
                let readers = line.terminals.iter().filter_map(|terminal| stationed(line, terminal, report)).collect();
                let readers: Vec<Stationed> = readers;
                let keys = readers.iter().map(|reader| reader.key).collect();
                let controller = Controller::new(readers, line.baud, rand::random(), context.clock.instant());
                return Served::Readers(Box::new(Polling::new(
                    controller,
                    keys,
                    context.clone(),
                    report.clone(),
                    orders,
                )));
            }
            LineProtocol::Rdm6300 => Module::Rdm6300(rdm6300::Decoder::default()),
            LineProtocol::Ascii => Module::Ascii(ascii::Decoder::default()),
        };
        // A line without addresses has one terminal; the configuration says so.
        let Some(terminal) = line.terminals.first() else { return Served::Nothing };
        let swipes = Swipes::new(origin(terminal), module);
        Served::Sender(Box::new(Listening::new(swipes, context.clone(), report.clone())))
    }

    async fn serve(&mut self, port: SerialStream, shutdown: &CancellationToken) -> io::Result<()> {
        match self {
            Served::Readers(polling) => {
                let outcome = polling.serve(port, shutdown).await;
                polling.port_lost();
                outcome
            }
            Served::Sender(listening) => listening.serve(port, shutdown).await,
            Served::Nothing => {
                shutdown.cancelled().await;
                Ok(())
            }
        }
    }

    /// Waits until the port may be tried again.
    async fn wait(&mut self, back_off: Duration, shutdown: &CancellationToken) {
        let meanwhile = async {
            match self {
                Served::Readers(polling) => polling.decline_orders().await,
                Served::Sender(listening) => listening.keep_offering().await,
                Served::Nothing => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(back_off) => {}
            () = meanwhile => {}
        }
    }

    /// Nothing more is read. Our own readers have copies of what is not durable; others have not.
    async fn finish(&mut self) {
        if let Served::Sender(listening) = self {
            listening.finish().await;
        }
    }
}

/// A reader as the controller wants it; an alarm if it cannot be served.
fn stationed(line: &Line, terminal: &LineTerminal, report: &Report) -> Option<Stationed> {
    let origin = origin(terminal);
    let Some(address) = terminal.address.and_then(Address::new) else {
        report.not_served(&origin, "it needs an address from 1 to 247");
        return None;
    };
    let key = terminal.key.map(|key| Key(key.0));
    match (key.is_some(), line.accept_unkeyed) {
        (true, _) => {}
        (false, true) => report.unkeyed(&origin),
        (false, false) => {
            report.not_served(&origin, "it has no key_file, and the line does not accept_unkeyed readers");
            return None;
        }
    }
    Some(Stationed { origin, address, key })
}

fn origin(terminal: &LineTerminal) -> Origin {
    Origin { terminal: terminal.id.clone(), serial: terminal.serial.clone(), direction: terminal.direction }
}

/// Now, for a core.
fn moment(clock: &Clock) -> Moment {
    Moment { instant: clock.instant(), wall: clock.now(), trusted: clock.is_trustworthy() }
}

/// Sleeps until then; for ever without a time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
