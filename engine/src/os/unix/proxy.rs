//! The proxies that a user sets for the whole system.

pub(crate) use super::kernel::proxy_settings as settings;
pub(crate) use crate::os::terms::ProxySettings;

/// What `scutil --proxy` of macOS prints, as settings; `None` where no proxy is switched on. A
/// script that chooses a proxy (PAC) is not read.
#[cfg(any(test, target_vendor = "apple"))]
pub(super) fn of_scutil(printed: &str) -> Option<ProxySettings> {
    let mut values = std::collections::HashMap::new();
    let (mut direct, mut in_exceptions) = (Vec::new(), false);
    for line in printed.lines().map(str::trim) {
        match line.split_once(" : ") {
            Some(("ExceptionsList", _)) => in_exceptions = true,
            Some((_, pattern)) if in_exceptions => direct.push(whole_network(pattern)),
            Some((key, value)) => drop(values.insert(key, value)),
            None => in_exceptions &= line != "}",
        }
    }
    let is_on = |key: &str| values.get(key) == Some(&"1");
    let server = |kind: &str| {
        let host = values.get(format!("{kind}Proxy").as_str()).filter(|host| !host.is_empty())?;
        let host = if host.contains(':') { format!("[{host}]") } else { (*host).to_owned() };
        let port = values.get(format!("{kind}Port").as_str()).map(|port| format!(":{port}"));
        is_on(&format!("{kind}Enable")).then(|| host + &port.unwrap_or_default())
    };
    let socks = server("SOCKS").map(|server| format!("socks5h://{server}"));
    let of = |scheme: &str, kind: &str| {
        let server = server(kind).or_else(|| socks.clone())?;
        Some(format!("{scheme}={server}"))
    };
    let servers: Vec<String> =
        [of("http", "HTTP"), of("https", "HTTPS")].into_iter().flatten().collect();
    if is_on("ExcludeSimpleHostnames") {
        direct.push("<local>".to_owned());
    }
    let settings = ProxySettings { servers: servers.join(";"), direct: direct.join(";") };
    (!settings.servers.is_empty()).then_some(settings)
}

/// `169.254/16` is short for `169.254.0.0/16`.
#[cfg(any(test, target_vendor = "apple"))]
fn whole_network(pattern: &str) -> String {
    let Some((network, bits)) = pattern.split_once('/') else { return pattern.to_owned() };
    let missing = 3_usize.saturating_sub(network.matches('.').count());
    let is_short = network.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let zeros = if is_short { ".0".repeat(missing) } else { String::new() };
    format!("{network}{zeros}/{bits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_macos_are_read() {
        let printed = "<dictionary> {\n  ExceptionsList : <array> {\n    0 : *.local\n    \
                       1 : 169.254/16\n  }\n  ExcludeSimpleHostnames : 1\n  FTPPassive : 1\n  \
                       HTTPEnable : 1\n  HTTPPort : 3128\n  HTTPProxy : proxy.example\n  \
                       HTTPSEnable : 0\n  HTTPSProxy : old.example\n}\n";
        let settings = of_scutil(printed).unwrap();
        assert_eq!(settings.servers, "http=proxy.example:3128");
        assert_eq!(settings.direct, "*.local;169.254.0.0/16;<local>");
        let socks =
            "<dictionary> {\n  SOCKSEnable : 1\n  SOCKSPort : 1080\n  SOCKSProxy : ::1\n}\n";
        let settings = of_scutil(socks).unwrap();
        assert_eq!(settings.servers, "http=socks5h://[::1]:1080;https=socks5h://[::1]:1080");
        for nothing in ["", "<dictionary> {\n  FTPPassive : 1\n}\n", "No such key\n"] {
            assert_eq!(of_scutil(nothing), None, "{nothing}");
        }
    }
}
