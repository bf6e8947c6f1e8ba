//! From a response's bytes to what a model can read.

use htmd::HtmlToMarkdown;
use vteam_sdk::{ToolError, http::Response};

/// Bytes of an image at most: a call's outcome has to hold it.
const IMAGE_BYTES: usize = 1_000_000;
const NOT_TEXT: [&str; 9] =
    ["script", "style", "noscript", "svg", "iframe", "template", "head", "nav", "footer"];

pub(crate) enum Page {
    Text(String),
    Image { media_type: String, data: Vec<u8> },
}

pub(crate) fn read(response: Response) -> Result<Page, ToolError> {
    let content_type = response.header("content-type").unwrap_or("text/html").to_ascii_lowercase();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "text/html" | "application/xhtml+xml" => {
            markdown(&decoded(&content_type, &response.body)).map(Page::Text)
        }
        "image/png" | "image/jpeg" | "image/gif" | "image/webp" if response.body.len() <= IMAGE_BYTES => {
            Ok(Page::Image { media_type: media_type.to_owned(), data: response.body })
        }
        _ if is_text(media_type) => Ok(Page::Text(decoded(&content_type, &response.body))),
        _ => Err(ToolError::invalid(format!(
            "the page is {media_type:?}, which is neither text nor an image that can be shown"
        ))),
    }
}

fn is_text(media_type: &str) -> bool {
    const ALSO: [&str; 8] = ["json", "xml", "javascript", "yaml", "toml", "sql", "x-sh", "markdown"];
    media_type.starts_with("text/")
        || media_type
            .strip_prefix("application/")
            .is_some_and(|kind| ALSO.iter().any(|text| kind.contains(text)))
}

fn markdown(html: &str) -> Result<String, ToolError> {
    let converter = HtmlToMarkdown::builder().skip_tags(NOT_TEXT.to_vec()).build();
    let text = converter
        .convert(html)
        .map_err(|error| ToolError::failed(format!("the page cannot be read: {error}")))?;
    let mut out = String::new();
    let mut blank = false;
    for line in text.lines().map(str::trim_end) {
        // Runs of empty lines are what is left of layout.
        if !(line.is_empty() && blank) {
            out.push_str(line);
            out.push('\n');
        }
        blank = line.is_empty();
    }
    Ok(out.trim().to_owned())
}

/// UTF-8, or the one-byte encoding of old pages where the server says so.
fn decoded(content_type: &str, body: &[u8]) -> String {
    let latin = ["iso-8859-1", "windows-1252", "latin1"].iter().any(|name| content_type.contains(name));
    if latin {
        body.iter().map(|b| char::from(*b)).collect()
    } else {
        String::from_utf8_lossy(body).into_owned()
    }
}
