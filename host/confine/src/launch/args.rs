//! The command line of `vteam-exec`.

use crate::{Mask, ProgramLimits};
use std::path::PathBuf;

/// How launcher and runner come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// By a descriptor of a socket that this process was started with.
    Inherited(i32),
    /// By listening at this path.
    Listen(PathBuf),
}

/// Parsed and complete.
#[derive(Debug)]
pub struct Options {
    pub meeting: Meeting,
    pub workspace: PathBuf,
    /// It is a person's own folder, in which git's metadata have to be out of reach.
    pub in_place: bool,
    /// The file that says what is covered there.
    pub covers: Option<PathBuf>,
    pub home: PathBuf,
    pub tmp: PathBuf,
    pub masks: Vec<Mask>,
    pub limits: ProgramLimits,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{0}\nusage: vteam-exec --socket-fd N | --listen PATH --workspace DIR | --in-place DIR --covers FILE --home DIR --tmp DIR [--mask FEATURE]... [--limit NAME=VALUE]..."
)]
pub struct BadArguments(String);

impl Options {
    /// # Errors
    /// When something is missing, unknown or of the wrong form.
    pub fn parse(arguments: &[String]) -> Result<Self, BadArguments> {
        let (mut meetings, mut workspace, mut home, mut tmp) = (Vec::new(), None, None, None);
        let (mut in_place, mut covers) = (false, None);
        let (mut masks, mut limits) = (Vec::new(), ProgramLimits::shipped());
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            let value = rest.next().ok_or_else(|| BadArguments(format!("{flag} needs a value")))?;
            match flag.as_str() {
                "--socket-fd" => meetings.push(Meeting::Inherited(number(flag, value)?)),
                "--listen" => meetings.push(Meeting::Listen(PathBuf::from(value))),
                "--workspace" => workspace = Some(PathBuf::from(value)),
                "--in-place" => (workspace, in_place) = (Some(PathBuf::from(value)), true),
                "--covers" => covers = Some(PathBuf::from(value)),
                "--home" => home = Some(PathBuf::from(value)),
                "--tmp" => tmp = Some(PathBuf::from(value)),
                "--mask" => {
                    masks.push(value.parse().map_err(|e: crate::BadMask| BadArguments(e.to_string()))?)
                }
                "--limit" => lower(&mut limits, value)?,
                _ => return Err(BadArguments(format!("{flag} is not known"))),
            }
        }
        if in_place != covers.is_some() {
            return Err(BadArguments("--in-place and --covers come together".to_owned()));
        }
        let missing = |flag: &str| BadArguments(format!("{flag} is missing"));
        let [meeting] = meetings.as_slice() else {
            return Err(BadArguments("one of --socket-fd and --listen is needed, and one only".to_owned()));
        };
        Ok(Self {
            meeting: meeting.clone(),
            workspace: workspace.ok_or_else(|| missing("--workspace"))?,
            home: home.ok_or_else(|| missing("--home"))?,
            tmp: tmp.ok_or_else(|| missing("--tmp"))?,
            in_place,
            covers,
            masks,
            limits,
        })
    }
}

fn number<N: std::str::FromStr>(flag: &str, value: &str) -> Result<N, BadArguments> {
    value.parse().map_err(|_| BadArguments(format!("{flag} needs a number, not {value:?}")))
}

/// Like a mask, a limit given here only ever lowers what is shipped.
fn lower(limits: &mut ProgramLimits, text: &str) -> Result<(), BadArguments> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| BadArguments(format!("{text:?} is not NAME=VALUE")))?;
    let value: u64 = number(name, value)?;
    let limit = match name {
        "programs" => {
            limits.programs = limits.programs.min(usize::try_from(value).unwrap_or(usize::MAX));
            return Ok(());
        }
        "processes" => &mut limits.processes,
        "memory-bytes" => &mut limits.memory_bytes,
        "file-bytes" => &mut limits.file_bytes,
        "open-files" => &mut limits.open_files,
        "disk-bytes" => &mut limits.disk_bytes,
        _ => return Err(BadArguments(format!("there is no limit {name:?}"))),
    };
    *limit = value.min(*limit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Meeting, &str>) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let seen = Options::parse(&arguments).map(|o| o.meeting).map_err(|e| e.to_string());
        match (seen, expected) {
            (Ok(meeting), Ok(wanted)) => assert_eq!(meeting, wanted, "{line}"),
            (Err(message), Err(part)) => assert!(message.contains(part), "{line}: {message}"),
            (seen, _) => panic!("{line}: {seen:?}"),
        }
    }

    #[test]
    fn arguments() {
        let folders = "--workspace /w --home /h --tmp /t";
        let whole = &format!("--socket-fd 3 {folders}");
        let fd = || Ok(Meeting::Inherited(3));
        check(whole, fd());
        check(&format!("--listen /l {folders}"), Ok(Meeting::Listen("/l".into())));
        check(&format!("--listen /l --socket-fd 3 {folders}"), Err("one only"));
        check(folders, Err("one of --socket-fd and --listen"));
        check("--socket-fd 3 --in-place /w --covers /c --home /h --tmp /t", fd());
        check("--socket-fd 3 --in-place /w --home /h --tmp /t", Err("come together"));
        check(&format!("{whole} --mask no-userns --limit processes=7"), fd());
        check("--socket-fd 3 --workspace /w --home /h", Err("--tmp is missing"));
        check("--socket-fd three", Err("needs a number"));
        check("--socket-fd", Err("needs a value"));
        check(&format!("{whole} --mask nothing"), Err("no mask"));
        check(&format!("{whole} --limit speed=1"), Err("no limit"));
        check("--confine no", Err("not known"));
    }

    #[test]
    fn limits_only_go_down() {
        let mut limits = ProgramLimits::shipped();
        lower(&mut limits, "open-files=18446744073709551615").unwrap();
        assert_eq!(limits, ProgramLimits::shipped());
        lower(&mut limits, "open-files=8").unwrap();
        assert_eq!(limits.open_files, 8);
    }
}
