//! The person's folder, for a server that does not see it.

use super::Workspace;
use crate::{
    args::RunArgs,
    client::{Client, Parcel},
    exit::Outcome,
    settings::Settings,
};
use server::workspace::{LeftOut, Packed};
use std::path::Path;

/// The workspace as the server can have it.
pub(super) async fn where_needed(
    settings: &Settings,
    args: &RunArgs,
    on: Workspace,
    client: &Client,
) -> Outcome<Workspace> {
    let from = match on {
        Workspace::CopyOf(dir) if !settings.sees_folders() => dir,
        other => return Ok(other),
    };
    let parcel = Parcel {
        folder: from.clone(),
        include_ignored: args.include_ignored,
        own: settings.data_dir.clone(),
    };
    let (blob, packed) = client.send_folder(parcel).await?;
    if !settings.output.json {
        settings.output.text(&settings.output.style.dim(&told(&from, &packed)))?;
    }
    Ok(Workspace::Sent { from, blob })
}

fn told(from: &Path, packed: &Packed) -> String {
    let Packed { files, bytes, left_out } = packed;
    let LeftOut { special, links, git, own } = left_out;
    let size = match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    };
    let from = model::render::line(&from.display().to_string().into(), 200);
    let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let mut text = format!("sent a copy of {from}: {files}, {size}\n");
    let parts = [
        (git, ".git: git metadata lie outside the workspace"),
        (links, "links that lead outside the folder"),
        (special, "devices, pipes or sockets"),
        (own, "vteam's own data"),
    ];
    for (count, what) in parts.into_iter().filter(|(count, _)| **count > 0) {
        text.push_str(&format!("  without {what} ({count})\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_told() {
        let left_out = LeftOut { git: 1, links: 2, special: 0, own: 0 };
        let text = told(Path::new("/p"), &Packed { files: 3, bytes: 20_480, left_out });
        let expected = "sent a copy of /p: 3 files, 20 KiB\n  without .git: git metadata lie outside the workspace \
            (1)\n  without links that lead outside the folder (2)\n";
        assert_eq!(text, expected);
    }
}
