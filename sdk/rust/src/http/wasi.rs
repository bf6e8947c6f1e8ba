//! One GET through `wasi:http`.

use super::{FetchError, Response};
use wasip2::{
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, IncomingBody, IncomingResponse, OutgoingRequest, Scheme},
    },
    io::streams::StreamError,
};

const CHUNK: u64 = 64 << 10;

pub(super) fn get(url: &str, headers: &[(&str, &str)], max_bytes: usize) -> Result<Response, FetchError> {
    let pending = outgoing_handler::handle(request(url, headers)?, None).map_err(|code| refusal(&code))?;
    pending.subscribe().block();
    let response = match pending.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(refusal(&code)),
        Some(Err(())) | None => return Err(FetchError::Failed("the host gave no response".to_owned())),
    };
    read(&response, max_bytes)
}

fn request(url: &str, headers: &[(&str, &str)]) -> Result<OutgoingRequest, FetchError> {
    let invalid = |()| FetchError::Invalid(format!("{url} cannot be fetched"));
    let (scheme, rest) = url.split_once("://").ok_or(()).map_err(invalid)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => return Err(FetchError::Invalid(format!("only http and https can be fetched, not {other}"))),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let fields = Fields::new();
    for (name, value) in headers {
        fields
            .append(name, value.as_bytes())
            .map_err(|_| FetchError::Invalid(format!("header {name} is not permitted")))?;
    }
    let request = OutgoingRequest::new(fields);
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(&path)).map_err(invalid)?;
    Ok(request)
}

fn read(response: &IncomingResponse, max_bytes: usize) -> Result<Response, FetchError> {
    let headers = response.headers().entries();
    let headers =
        headers.into_iter().map(|(n, v)| (n.to_lowercase(), String::from_utf8_lossy(&v).into_owned()));
    let status = response.status();
    let headers = headers.collect();
    let body =
        response.consume().map_err(|()| FetchError::Failed("the response has no body to read".to_owned()))?;
    let (body, cut) = drain(&body, max_bytes)?;
    Ok(Response { status, headers, body, cut })
}

fn drain(incoming: &IncomingBody, max_bytes: usize) -> Result<(Vec<u8>, bool), FetchError> {
    let stream =
        incoming.stream().map_err(|()| FetchError::Failed("the response has no body to read".to_owned()))?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok((body, false)),
            Err(StreamError::LastOperationFailed(_)) => return Ok((body, true)),
        }
        if body.len() > max_bytes {
            body.truncate(max_bytes);
            return Ok((body, true));
        }
    }
}

fn refusal(code: &ErrorCode) -> FetchError {
    match code {
        ErrorCode::HttpRequestDenied => {
            FetchError::Denied("the host does not permit this request".to_owned())
        }
        ErrorCode::DestinationIpProhibited => {
            FetchError::Denied("this address is not a public one and is not fetched from".to_owned())
        }
        ErrorCode::HttpRequestUriInvalid => FetchError::Invalid("this URL cannot be fetched".to_owned()),
        ErrorCode::DestinationNotFound | ErrorCode::DnsError(_) => {
            FetchError::Failed("the host of this URL was not found".to_owned())
        }
        ErrorCode::HttpResponseBodySize(_) => {
            FetchError::Failed("the response is larger than permitted".to_owned())
        }
        ErrorCode::ConnectionTimeout | ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            FetchError::Failed("no answer in time".to_owned())
        }
        ErrorCode::InternalError(Some(message)) => FetchError::Failed(message.clone()),
        other => FetchError::Failed(format!("no response: {other:?}")),
    }
}
