//! What the pins do.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use embedded_hal::digital::{ErrorType, OutputPin};
use embedded_hal_mock::eh1::MockError;
use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};
use firmware::panel::PinFailed;
use firmware::{Panel, Show};
use protocol::{Seq, Signal, UptimeMs};

/// A pin whose level can be looked at.
#[derive(Clone, Default)]
struct Lamp(Rc<Cell<bool>>);

impl ErrorType for Lamp {
    type Error = Infallible;
}

impl OutputPin for Lamp {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.set(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// The levels of green, red, buzzer and relay at these times after the signal.
fn levels(show: Show, times: &[u64]) -> Vec<[bool; 4]> {
    let lamps: [Lamp; 4] = Default::default();
    let [green, red, buzzer, relay] = lamps.clone();
    let mut panel = Panel::new(green, red, buzzer, relay);
    panel.show(show, UptimeMs(5_000));
    let mut look = |after: &u64| {
        panel.poll(UptimeMs(5_000 + after)).unwrap();
        lamps.each_ref().map(|lamp| lamp.0.get())
    };
    times.iter().map(&mut look).collect()
}

fn punch(signal: Signal) -> Show {
    Show::Punch { seq: Seq(1), signal }
}

#[test]
fn stored_is_green_and_one_beep() {
    let seen = levels(punch(Signal::Stored), &[0, 79, 80, 599, 600]);
    let (both, lamp, dark) = ([true, false, true, false], [true, false, false, false], [false; 4]);
    assert_eq!(seen, [both, both, lamp, lamp, dark]);
}

#[test]
fn refused_is_red_unknown_blinks_and_not_kept_is_long() {
    let red = |show, times: &[u64]| levels(show, times).iter().map(|pins| pins[1]).collect::<Vec<_>>();
    assert_eq!(red(punch(Signal::Refused), &[0, 1_499, 1_500]), [true, true, false]);
    assert_eq!(red(punch(Signal::Unknown), &[0, 199, 200, 400, 1_399, 1_600]), [true, true, false, true, true, false]);
    assert_eq!(red(Show::NotKept, &[0, 2_999, 3_000]), [true, true, false]);
}

#[test]
fn kept_is_both_lamps_together_and_never_green_alone() {
    let seen = levels(Show::Kept, &[0, 39, 40, 100, 199, 200, 340, 400, 1_000, 1_199, 1_200]);
    let lamps: Vec<[bool; 2]> = seen.iter().map(|pins| [pins[0], pins[1]]).collect();
    let (both, dark) = ([true; 2], [false; 2]);
    assert_eq!(lamps, [both, both, both, both, both, dark, dark, both, dark, dark, dark]);
    let ticks: Vec<bool> = seen.iter().map(|pins| pins[2]).collect();
    assert_eq!(ticks, [true, true, false, true, false, true, false, false, false, false, false]);
}

#[test]
fn the_relay_closes_for_its_time_beside_the_lamps() {
    assert_eq!(
        levels(Show::Open { pulse_ms: 500 }, &[0, 499, 500]).iter().map(|pins| pins[3]).collect::<Vec<_>>(),
        [true, true, false]
    );
}

#[test]
fn all_pins_are_off_before_the_first_signal() {
    let mut pins = [(); 4].map(|()| Mock::new(&[Transaction::set(State::Low)]));
    let [green, red, buzzer, relay] = pins.clone();
    Panel::new(green, red, buzzer, relay).poll(UptimeMs(0)).unwrap();
    pins.iter_mut().for_each(Mock::done);
}

#[test]
fn a_pin_that_fails_does_not_keep_the_others_from_being_set() {
    let failure = MockError::Io(std::io::ErrorKind::Other);
    let mut green = Mock::new(&[Transaction::set(State::Low).with_error(failure)]);
    let mut relay = Mock::new(&[Transaction::set(State::Low)]);
    let (red, buzzer) = (Lamp::default(), Lamp::default());
    let outcome = Panel::new(green.clone(), red, buzzer, relay.clone()).poll(UptimeMs(0));
    assert_eq!(outcome, Err(PinFailed));
    green.done();
    relay.done();
}
