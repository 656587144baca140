//! How connections are made, what is asked, and what a network and its servers do to it.

mod access;
mod canaries;
mod cookies;
mod far;
mod http2;
mod learning;
mod netrc;
mod odd_heads;
mod outages;
mod proxies;
mod refusals;
mod security;
mod transport;
mod ways;
