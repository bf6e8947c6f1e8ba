//! Fetches over wasi:http what the input says: method, URL, and the name of a header to send along.

#[cfg(target_os = "wasi")]
fn fetch(method: &str, url: &str, header: Option<&str>) -> Result<String, String> {
    use wasip2::http::{
        outgoing_handler::handle,
        types::{Fields, Method, OutgoingRequest, Scheme},
    };
    let say = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let headers = Fields::new();
    if let Some(name) = header {
        headers.append(name, b"secret").map_err(|e| format!("header {e:?}"))?;
    }
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(headers);
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| "method")?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| "path")?;
    let future = handle(request, None).map_err(|e| say(&e))?;
    future.subscribe().block();
    let response = future.get().ok_or("not ready")?.map_err(|()| "taken")?.map_err(|e| say(&e))?;
    let shown: Vec<String> = response.headers().entries().into_iter().map(|(name, _)| name).collect();
    let body = response.consume().map_err(|()| "body")?;
    let stream = body.stream().map_err(|()| "stream")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => bytes.extend(chunk),
            Err(wasip2::io::streams::StreamError::Closed) => break,
            Err(error) => return Err(format!("after {} bytes {error:?}", bytes.len())),
        }
    }
    Ok(format!("{} [{}] {}", response.status(), shown.join(","), String::from_utf8_lossy(&bytes)))
}

guests::guest!("http-get", ["net.fetch"], |input, _| {
    let words: Vec<&str> = input.split(' ').collect();
    let (method, url) = (words.first().copied().unwrap_or(""), words.get(1).copied().unwrap_or(""));
    match fetch(method, url, words.get(2).copied()) {
        Ok(text) => guests::done(text),
        Err(error) => guests::failed(error),
    }
});
