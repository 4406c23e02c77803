//! UnixFS: files and directories.
