//! What of the kernel may be used, and how tests take some of it away.

use crate::sys;
use std::str::FromStr;

/// Takes one feature away, as if the kernel lacked it. A mask only ever reduces; what no longer holds is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// `landlock-abi=3`: at most this version; 0 is a kernel without Landlock.
    LandlockAbi(u32),
    /// `no-userns`
    NoUserNamespaces,
    /// `no-seccomp`
    NoSeccomp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no mask {0:?}; known are landlock-abi=N, no-userns and no-seccomp")]
pub struct BadMask(String);

impl FromStr for Mask {
    type Err = BadMask;

    fn from_str(text: &str) -> Result<Self, BadMask> {
        match text {
            "no-userns" => Ok(Self::NoUserNamespaces),
            "no-seccomp" => Ok(Self::NoSeccomp),
            _ => text
                .strip_prefix("landlock-abi=")
                .and_then(|abi| abi.parse().ok())
                .map(Self::LandlockAbi)
                .ok_or_else(|| BadMask(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LandlockAbi(abi) => write!(f, "landlock-abi={abi}"),
            Self::NoUserNamespaces => f.write_str("no-userns"),
            Self::NoSeccomp => f.write_str("no-seccomp"),
        }
    }
}

/// What may be used to confine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    pub landlock_abi: u32,
    /// Whether to try; whether the host lets us is seen by trying.
    pub user_namespaces: bool,
    pub seccomp: bool,
}

impl Features {
    /// Of the running kernel, less the masks.
    #[must_use]
    pub fn of_this_host(masks: &[Mask]) -> Self {
        let all = Self { landlock_abi: sys::landlock_abi(), user_namespaces: true, seccomp: true };
        masks.iter().fold(all, |features, mask| match *mask {
            Mask::LandlockAbi(abi) => Self { landlock_abi: features.landlock_abi.min(abi), ..features },
            Mask::NoUserNamespaces => Self { user_namespaces: false, ..features },
            Mask::NoSeccomp => Self { seccomp: false, ..features },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_read_as_written_and_only_reduce() {
        for mask in [Mask::LandlockAbi(3), Mask::NoUserNamespaces, Mask::NoSeccomp] {
            assert_eq!(mask.to_string().parse(), Ok(mask));
        }
        for bad in ["", "landlock-abi=", "landlock-abi=-1", "userns"] {
            assert_eq!(bad.parse::<Mask>(), Err(BadMask(bad.to_owned())));
        }
        let host = Features::of_this_host(&[]);
        assert_eq!(Features::of_this_host(&[Mask::LandlockAbi(u32::MAX)]), host);
        assert_eq!(Features::of_this_host(&[Mask::LandlockAbi(0)]).landlock_abi, 0);
    }
}
