//! What nearly every test needs: `use haul_tests::prelude::*;`.

pub use crate::canary::CANARY;
pub use crate::harness::{
    Haul, Outcome, Running, Sandbox, Signal, assert_well_asked, interrupt, kill,
};
pub use crate::haul;
pub use crate::leaks;
pub use crate::object::{MIB, Object, object};
pub use crate::origin::{
    Asked, Authority, Context, End, Gate, Origin, Record, Refusal, Request, Response,
    ServerIdentity, Throttle, Validity, date, standard,
};
pub use crate::random::{Random, rounds};
pub use crate::running::{engine, engine_with, last_event, until_bytes};
