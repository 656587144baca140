//! The engine inside another program. Each test here is checked by `haul_tests::leaks`,
//! which counts what the process holds: a test without that check belongs into another binary.

mod blocking;
mod causes;
mod embedding;
mod handle;
mod many_engine;
mod newcomers;
mod own_parts;
mod own_storage;
mod promises;
mod reader;
