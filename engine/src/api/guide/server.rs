// A small server for the examples of the guide: one object, under every path,
// with ranges and a strong tag. Included by doctests; not part of the library.

#[allow(dead_code)]
fn object() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Serves [`object`] on loopback until the process ends; returns the URL of its root.
#[allow(dead_code)]
fn serve() -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let bytes = std::sync::Arc::new(object());
        for stream in listener.incoming().flatten() {
            let bytes = bytes.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let (mut range, mut path) = (None, String::new());
                while let Some(Ok(line)) = lines.next() {
                    let lower = line.to_ascii_lowercase();
                    if let Some(asked) = lower.strip_prefix("range: bytes=") {
                        range = asked.split_once('-').map(|(from, to)| (from.to_owned(), to.to_owned()));
                    } else if lower.starts_with("get ") {
                        path = lower;
                    } else if line.is_empty() {
                        let expired = path.contains("expired");
                        let (from, to) = range.take().unwrap_or_default();
                        let from = from.parse().unwrap_or(0);
                        let to = to.parse().unwrap_or(usize::MAX).min(bytes.len() - 1);
                        let head = format!(
                            "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{to}/{}\r\n\
                             ETag: \"one\"\r\nAccept-Ranges: bytes\r\n\r\n",
                            if expired { "403 Forbidden" } else { "206 Partial Content" },
                            if expired { 0 } else { to + 1 - from },
                            bytes.len(),
                        );
                        let body = if expired { &[] } else { &bytes[from..=to] };
                        let mut stream = &stream;
                        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    url
}
