//! How the system's allocator deals with a node's memory.

/// Has the allocator give large buffers back to the system as soon as they are freed, where it has a setting for that:
/// glibc's otherwise keeps most of their memory for good. For programs in which a [`Node`](crate::Node) runs, before it
/// is started; `docs/decisions/0012-allocator.md` has the figures.
pub fn give_back_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    set_threshold();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the allocator's settings are a function of C's")]
fn set_threshold() {
    /// Bytes. What connections read into comes in pieces of less, which come and go all the time, and would be given back
    /// each time; what they write from is larger, is used again and again, and freed when the connection is quiet.
    const LARGE: libc::c_int = 160 * 1024;
    // SAFETY: it may be called at any time, with any number. Should it fail, everything stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
