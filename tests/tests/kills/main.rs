//! Processes and machines that end at any instant, and rivals that go on.

mod crashes;
mod power_cuts;
mod rivals;
mod side_by_side;
mod signals;
