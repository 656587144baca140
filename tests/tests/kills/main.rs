//! Processes and machines that end at any instant, and rivals that go on.

mod crashes;
mod power_cuts;
mod rivals;
mod signals;
