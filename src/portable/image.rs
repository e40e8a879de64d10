//! The image (executable or shared library) that this library is linked into: where its
//! read-only memory lies, and what identifies it.
//!
//! Linux and the BSDs ask the dynamic loader; macOS reads its own Mach-O header (written for it,
//! not run on it).

#![allow(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// What the loader tells of one image.
#[derive(Default)]
pub(crate) struct Image {
    /// Where it was put.
    base: usize,
    /// Memory that nobody writes to after relocation.
    read_only: Vec<Range<usize>>,
    /// The linker's own mark of the build, if it made one.
    build_id: Vec<u8>,
}

/// The image that `address` lies in; the same at every call, as callers pass the same anchor.
pub(crate) fn of(address: usize) -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| system::find(address).unwrap_or_default())
}

impl Image {
    pub(crate) fn is_read_only(&self, address: usize, length: usize) -> bool {
        let Some(end) = address.checked_add(length) else { return false };
        self.read_only.iter().any(|range| range.start <= address && end <= range.end)
    }
}

/// Tells two binaries apart: the build id of the image, or else its file; with it the place of
/// `anchor` inside the image and the version of this library.
pub(crate) fn identity(anchor: usize, executable: &std::path::Path) -> u128 {
    let image = of(anchor);
    let mark = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        anchor.wrapping_sub(image.base).hash(&mut hasher);
        image.build_id.hash(&mut hasher);
        if image.build_id.is_empty()
            && let Ok(file) = std::fs::metadata(executable)
        {
            (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()).hash(&mut hasher);
        }
        hasher.finish()
    };
    u128::from(mark(0)) << 64 | u128::from(mark(1))
}

#[cfg(not(target_vendor = "apple"))]
mod system {
    use std::ffi::{c_int, c_void};
    use std::slice;

    use super::Image;

    struct Search {
        address: usize,
        found: Option<Image>,
    }

    pub(super) fn find(address: usize) -> Option<Image> {
        let mut search = Search { address, found: None };
        // SAFETY: the callback has the signature that is asked for, and is given this `search`,
        // which outlives the call, and nobody else touches it meanwhile.
        unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut search).cast()) };
        search.found
    }

    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
        // SAFETY: `find` passed a `Search` that is alive and not borrowed elsewhere.
        let search = unsafe { &mut *search.cast::<Search>() };
        // SAFETY: the loader passes a valid `dl_phdr_info` for the time of this call.
        let info = unsafe { &*info };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the loader says that `dlpi_phnum` headers lie there, and they stay as long as
        // the image is mapped.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let base = info.dlpi_addr as usize;
        let range = |header: &libc::Elf64_Phdr| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            start..start.saturating_add(header.p_memsz as usize)
        };
        let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        if !loaded().any(|header| range(header).contains(&search.address)) {
            return 0;
        }

        let constant =
            |header: &&libc::Elf64_Phdr| header.p_flags & libc::PF_W == 0 && header.p_flags & libc::PF_R != 0;
        let relocated = headers.iter().filter(|header| header.p_type == libc::PT_GNU_RELRO);
        let read_only = loaded().filter(constant).chain(relocated).map(range).collect();
        let build_id = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_NOTE)
            .find_map(|header| {
                let notes = range(header);
                // SAFETY: a note segment is loaded with the image, at this range, read-only.
                let notes = unsafe { slice::from_raw_parts(notes.start as *const u8, notes.len()) };
                build_id(notes)
            })
            .unwrap_or_default();
        search.found = Some(Image { base, read_only, build_id });
        1
    }

    /// Notes are { name length, data length, type: u32; name; data }, the parts padded to 4 bytes.
    fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
        const GNU_BUILD_ID: u32 = 3;
        loop {
            let (head, rest) = notes.split_first_chunk::<12>()?;
            let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let padded = |length: u32| (length as usize).next_multiple_of(4);
            let (name, rest) = rest.split_at_checked(padded(word(0)))?;
            let data = rest.get(..word(4) as usize)?;
            if word(8) == GNU_BUILD_ID && name.starts_with(b"GNU\0") {
                return Some(data.to_vec());
            }
            notes = rest.get(padded(word(4))..)?;
        }
    }
}

#[cfg(target_vendor = "apple")]
mod system {
    use super::Image;

    /// The main program only: on this platform its header is what the loader gives by number.
    pub(super) fn find(_address: usize) -> Option<Image> {
        const LC_SEGMENT_64: u32 = 0x19;
        // SAFETY: image 0 is the main program, which stays mapped.
        let (header, slide) =
            unsafe { (libc::_dyld_get_image_header(0), libc::_dyld_get_image_vmaddr_slide(0)) };
        if header.is_null() {
            return None;
        }
        let base = header as usize;
        // SAFETY: on 64-bit systems the header is a `mach_header_64`, mapped and constant.
        let count = unsafe { (*header.cast::<libc::mach_header_64>()).ncmds };
        let mut command = base + size_of::<libc::mach_header_64>();
        let mut read_only = Vec::new();
        for _ in 0..count {
            // SAFETY: `ncmds` commands follow the header, each `cmdsize` bytes long.
            let head = unsafe { &*(command as *const libc::load_command) };
            if head.cmd == LC_SEGMENT_64 {
                // SAFETY: a command of this kind is a `segment_command_64`.
                let segment = unsafe { &*(command as *const libc::segment_command_64) };
                let name = segment.segname.map(|byte| byte as u8);
                if name.starts_with(b"__TEXT\0") || name.starts_with(b"__DATA_CONST\0") {
                    let start = (segment.vmaddr as usize).wrapping_add(slide as usize);
                    read_only.push(start..start.saturating_add(segment.vmsize as usize));
                }
            }
            command += head.cmdsize as usize;
        }
        Some(Image { base, read_only, build_id: Vec::new() })
    }
}
