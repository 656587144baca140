#![doc = include_str!("guide/start.md")]

#[doc = include_str!("guide/resume.md")]
pub mod resume {}

#[doc = include_str!("guide/refresh.md")]
pub mod refresh {}

#[doc = include_str!("guide/reading.md")]
pub mod reading {}

#[doc = include_str!("guide/own_parts.md")]
pub mod own_parts {}

#[doc = include_str!("guide/own_storage.md")]
pub mod own_storage {}

#[doc = include_str!("guide/threads_and_memory.md")]
pub mod threads_and_memory {}

#[doc = include_str!("guide/errors.md")]
pub mod errors {}
