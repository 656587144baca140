//! Settings of an engine, and the engine.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use haul_engine::{EngineConfig, HttpVersion, Proxies, Proxy, blocking};

use crate::failure::{Code, Failure, entry, entry_free};
use crate::os;
use crate::pointer::{Out, borrow, give, path, release, text};

/// Settings of an engine.
pub struct Config(Mutex<EngineConfig>);

impl Config {
    fn with(&self, change: impl FnOnce(&mut EngineConfig)) {
        // Plain settings, whole between any two statements.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What all downloads of a program share: connections, storing threads, memory and speed limits.
/// One engine is enough.
pub struct Engine(pub(crate) blocking::Engine);

/// Default settings.
///
/// Gives: `*config`, to be freed by `haul_config_free`. Threads: any.
///
/// # Safety
/// `config` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_new(config: *mut *mut Config) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(config, "config") }?;
        give(Config(Mutex::new(EngineConfig::default())), out);
        Ok(())
    })
}

/// Frees settings; engines made with them keep theirs. NULL is ignored.
///
/// Takes: `config`. Threads: any, but nothing else may use `config` meanwhile.
///
/// # Safety
/// `config` is NULL or of `haul_config_new`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_free(config: *mut Config) {
    // SAFETY: the contract above.
    entry_free(|| unsafe { release(config) });
}

/// Bounds the received bytes that are not stored yet, over all downloads together. The default is
/// 16 MiB, the least 4 MiB.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_memory_budget(config: *mut Config, bytes: usize) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        unsafe { borrow(config, "config") }?.with(|config| config.memory_budget_bytes = bytes);
        Ok(())
    })
}

/// Limits the total download rate, in bytes a second; 0 is no limit.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_rate(config: *mut Config, bytes_per_second: u64) -> Code {
    entry(|| {
        let rate = (bytes_per_second > 0).then_some(bytes_per_second);
        // SAFETY: the contract above.
        unsafe { borrow(config, "config") }?
            .with(|config| config.limit_rate_bytes_per_second = rate);
        Ok(())
    })
}

/// How long making one connection may take, in milliseconds. The default is 15000.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_connect_timeout(
    config: *mut Config,
    milliseconds: u64,
) -> Code {
    entry(|| {
        let timeout = Duration::from_millis(milliseconds);
        // SAFETY: the contract above.
        unsafe { borrow(config, "config") }?.with(|config| config.connect_timeout = timeout);
        Ok(())
    })
}

/// The User-Agent field. The default is haul/VERSION.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed; `user_agent` is NULL
/// or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_user_agent(
    config: *mut Config,
    user_agent: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let config = unsafe { borrow(config, "config") }?;
        // SAFETY: the contract above.
        let user_agent = unsafe { text(user_agent, "user_agent") }?.to_owned();
        config.with(|config| config.user_agent = user_agent);
        Ok(())
    })
}

/// A PEM file of certificate authorities, instead of the system's; read by
/// `haul_engine_new`.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed; `file` is NULL or a
/// string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_ca_file(config: *mut Config, file: *const c_char) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let config = unsafe { borrow(config, "config") }?;
        // SAFETY: the contract above.
        let file = unsafe { path(file, "file") }?.to_owned();
        config.with(|config| config.ca_file = Some(file));
        Ok(())
    })
}

/// A proxy for all requests, as `[SCHEME://][NAME[:PASS]@]HOST[:PORT]` with the scheme http, https,
/// socks4, socks4a, socks5 or socks5h. There is none by default: the environment is not read.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed; `proxy` is NULL or a
/// string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_proxy(config: *mut Config, proxy: *const c_char) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let config = unsafe { borrow(config, "config") }?;
        // SAFETY: the contract above.
        let proxy: Proxy = unsafe { text(proxy, "proxy") }?.parse()?;
        config.with(|config| config.proxies = Proxies::all(proxy));
        Ok(())
    })
}

/// A directory for remembering how many connections to a host were worth having. There is none by
/// default: nothing is remembered.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed; `directory` is NULL
/// or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_state_directory(
    config: *mut Config,
    directory: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let config = unsafe { borrow(config, "config") }?;
        // SAFETY: the contract above.
        let directory = unsafe { path(directory, "directory") }?.to_owned();
        config.with(|config| config.state_directory = Some(directory));
        Ok(())
    })
}

/// Whether HTTP/2 is offered to servers. The default is false: over HTTP/1.1 each connection has
/// its own congestion window, which is faster for large objects.
///
/// Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_config_set_http2(config: *mut Config, on: bool) -> Code {
    entry(|| {
        let version = if on { HttpVersion::Http2 } else { HttpVersion::Auto };
        // SAFETY: the contract above.
        unsafe { borrow(config, "config") }?.with(|config| config.http_version = version);
        Ok(())
    })
}

/// Creates an engine with a copy of these settings, or with the defaults for NULL, and starts its
/// threads.
///
/// Gives: `*engine`, to be freed by `haul_engine_free`. Threads: any.
///
/// # Safety
/// `config` is NULL or of `haul_config_new` and not freed; `engine` is NULL or
/// can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_engine_new(config: *const Config, engine: *mut *mut Engine) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(engine, "engine") }?;
        let mut settings = EngineConfig::default();
        // SAFETY: the contract above; NULL has a meaning here.
        if let Ok(config) = unsafe { borrow(config, "config") } {
            config.with(|config| settings = config.clone());
        }
        let engine = os::blocked(|| blocking::Engine::new(settings)).map_err(Failure::from)?;
        give(Engine(engine), out);
        Ok(())
    })
}

/// Frees an engine; NULL is ignored. Its downloads continue, and keep what they need of it. The
/// last of them to be freed waits, at most 5 s, until the downloads that it stopped have recorded
/// what they had.
///
/// Takes: `engine`. Threads: any, but nothing else may use `engine` meanwhile.
///
/// # Safety
/// `engine` is NULL or of `haul_engine_new`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_engine_free(engine: *mut Engine) {
    // SAFETY: the contract above.
    entry_free(|| unsafe { release(engine) });
}
