//! One fault of a storage, and its text form.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;

/// A call into the storage seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `Storage::create_dir`.
    CreateDir,
    /// `Storage::create`.
    Create,
    /// `Storage::open_locked`.
    OpenLocked,
    /// `Storage::open`.
    Open,
    /// `ReadFile::read_exact_at`.
    Read,
    /// `WriteFile::write_all`.
    Write,
    /// `WriteFile::sync`.
    Sync,
    /// `WriteFile::truncate`.
    Truncate,
    /// `Storage::rename`.
    Rename,
    /// `Storage::remove`.
    Remove,
    /// `Storage::sync_dir`.
    SyncDir,
    /// `Storage::list`.
    List,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 12] = [
        Self::CreateDir,
        Self::Create,
        Self::OpenLocked,
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::Truncate,
        Self::Rename,
        Self::Remove,
        Self::SyncDir,
        Self::List,
    ];

    /// Its name in a fault's text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateDir => "create_dir",
            Self::Create => "create",
            Self::OpenLocked => "open_locked",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Truncate => "truncate",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDir => "sync_dir",
            Self::List => "list",
        }
    }
}

/// Errors that a fault can give, by their names in errno(3).
const ERRORS: [(&str, Errno); 7] = [
    ("enospc", Errno::NOSPC),
    ("edquot", Errno::DQUOT),
    ("erofs", Errno::ROFS),
    ("eio", Errno::IO),
    ("enoent", Errno::NOENT),
    ("eacces", Errno::ACCESS),
    ("emfile", Errno::MFILE),
];

/// What fails, how, and when. Text form: `OPERATION=ERROR[,after=N][,times=N][,name=SUFFIX]`, for
/// example `write=enospc,after=1000000,times=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub on: Operation,
    errno: Errno,
    /// Calls that still go well; for writes bytes, and the write that crosses the limit is cut
    /// short there. Default 0.
    pub after: u64,
    /// Calls that fail before it has healed. Default: it never heals.
    pub times: u64,
    /// Only files whose names end so. Default: every file.
    pub name: String,
}

impl Fault {
    /// True where it concerns that operation on that file.
    pub(super) fn concerns(&self, on: Operation, path: &Path) -> bool {
        self.on == on && path.to_string_lossy().ends_with(&self.name)
    }

    /// The error that it gives.
    pub fn error(&self) -> io::Error {
        self.errno.into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ERRORS.iter().find(|(_, errno)| *errno == self.errno);
        let error = known.map_or("eio", |(name, _)| name);
        write!(f, "{}={error},after={}", self.on.name(), self.after)?;
        if self.times != u64::MAX {
            write!(f, ",times={}", self.times)?;
        }
        if !self.name.is_empty() {
            write!(f, ",name={}", self.name)?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: String| {
            format!("`{text}` is no fault: {why}; write it like write=enospc,after=1000000,times=3")
        };
        let mut parts = text.split(',');
        let (on, error) = parts
            .next()
            .and_then(|first| first.split_once('='))
            .ok_or_else(|| bad("it must begin with OPERATION=ERROR".to_owned()))?;
        let operations = Operation::ALL;
        let on = operations
            .into_iter()
            .find(|o| o.name() == on)
            .ok_or_else(|| {
                let names: Vec<_> = operations.iter().map(|o| o.name()).collect();
                bad(format!(
                    "`{on}` is no operation (there are {})",
                    names.join(", ")
                ))
            })?;
        let (_, errno) = *ERRORS
            .iter()
            .find(|(name, _)| *name == error)
            .ok_or_else(|| {
                let names: Vec<_> = ERRORS.iter().map(|(name, _)| *name).collect();
                bad(format!(
                    "`{error}` is no error (there are {})",
                    names.join(", ")
                ))
            })?;
        let mut fault = Self {
            on,
            errno,
            after: 0,
            times: u64::MAX,
            name: String::new(),
        };
        for part in parts {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| bad(format!("`{part}` is no KEY=VALUE")))?;
            let number = || {
                let parsed = value.parse::<u64>();
                parsed.map_err(|_| bad(format!("`{value}` is no whole number")))
            };
            match key {
                "after" => fault.after = number()?,
                "times" => fault.times = number()?,
                "name" => value.clone_into(&mut fault.name),
                _ => {
                    return Err(bad(format!(
                        "`{key}` is not known (there are after, times, name)"
                    )));
                }
            }
        }
        Ok(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_round_trips_and_says_what_is_wrong() {
        for text in [
            "write=enospc,after=1000000,times=3",
            "sync=eio,after=0",
            "create=erofs,after=2,times=1,name=.open",
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), text);
        }
        let kind = "write=enospc".parse::<Fault>().unwrap().error().kind();
        assert_eq!(kind, io::ErrorKind::StorageFull);
        for (text, why) in [
            ("write", "OPERATION=ERROR"),
            ("wirte=eio", "no operation"),
            ("write=full", "no error"),
            ("write=eio,after=x", "no whole number"),
            ("write=eio,when=1", "not known"),
        ] {
            let said = text.parse::<Fault>().unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
