//! Finds out with one request what a download would do, and writes nothing.
//!
//! `cargo run -p haul-engine --example plan -- URL`
#![allow(clippy::print_stdout)]

use haul_engine::{Engine, EngineConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("give a URL")?;
    let plan = Engine::new(EngineConfig::default())?.download(&url).plan().await?;
    println!("{} would become {}", plan.url, plan.output.display());
    match plan.total_bytes {
        Some(total) => println!("{} of {total} bytes are here already", plan.resumable_bytes),
        None => println!("the server tells no size"),
    }
    println!("ranges: {}, validator: {:?}", plan.ranges, plan.validator);
    Ok(())
}
