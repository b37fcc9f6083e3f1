//! Raw libvirt bindings that its crate has no safe form of: registering for domain events, a descriptor
//! that it gives away, the size of a disk (the crate's form of that reads what a failed call has not written), and what a
//! guest's agent is asked for. With them what Tokio has no safe form of: a file that is waited for.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs::File,
    os::fd::{FromRawFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::io::unix::AsyncFd;
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// A connection to a guest's screen (RFB).
pub(super) fn open_screen(domain: &Domain) -> Result<OwnedFd, Error> {
    let descriptor = domain.open_graphics_fd(0, 0)?;
    // SAFETY: libvirt has just made it and gives it to the caller (virDomainOpenGraphicsFD's manual).
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor.cast_signed()) })
}

/// How large the guest sees the disk of this name on the bus.
pub(super) fn capacity(domain: &Domain, target: &str) -> Result<u64, Error> {
    let target = CString::new(target)?;
    let mut info = sys::virDomainBlockInfo {
        capacity: 0,
        allocation: 0,
        physical: 0,
    };
    // SAFETY: domain, name and structure are borrowed for the call, which keeps none of them.
    let done = unsafe { sys::virDomainGetBlockInfo(domain.as_ptr(), target.as_ptr(), &raw mut info, 0) };
    if done < 0 {
        return Err(Error::last_error());
    }
    Ok(info.capacity)
}

/// The disk of this name on the bus may do so much in a second, read and written together; 0: any number.
pub(super) fn throttle(
    domain: &Domain,
    target: &str,
    (bytes, operations): (u64, u64),
    flags: sys::virDomainModificationImpact,
) -> Result<(), Error> {
    let target = CString::new(target)?;
    let limit = |name: &CStr, most: u64| {
        let mut field = [0; 80];
        for (to, from) in field.iter_mut().zip(name.to_bytes_with_nul()) {
            *to = from.cast_signed();
        }
        sys::virTypedParameter {
            field,
            type_: sys::VIR_TYPED_PARAM_ULLONG as c_int,
            value: sys::_virTypedParameter__bindgen_ty_1 { ul: most },
        }
    };
    let mut limits = [
        limit(sys::VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_BYTES_SEC, bytes),
        limit(sys::VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_IOPS_SEC, operations),
    ];
    // SAFETY: domain, name and the two limits, which are there and whole, are borrowed for the call, which keeps none.
    let done = unsafe {
        sys::virDomainSetBlockIoTune(
            domain.as_ptr(),
            target.as_ptr(),
            limits.as_mut_ptr(),
            limits.len() as c_int,
            flags,
        )
    };
    if done < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// Begins a backup: copies of disks as they are at one moment before this returns; `are_there`: in files that somebody
/// has made.
pub(super) fn begin_backup(domain: &Domain, xml: &str, are_there: bool) -> Result<(), Error> {
    let xml = CString::new(xml)?;
    let flags = match are_there {
        true => sys::VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL,
        false => 0,
    };
    // SAFETY: domain and text are borrowed for the call, which keeps neither; without a checkpoint there is no text
    // for one (virDomainBackupBegin's manual).
    let done = unsafe { sys::virDomainBackupBegin(domain.as_ptr(), xml.as_ptr(), std::ptr::null(), flags) };
    if done < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// Gives a guest's agent so long for each command from now on. Without it a command has no end.
pub(super) fn agent_timeout(domain: &Domain, most: Duration) -> Result<(), Error> {
    let seconds = c_int::try_from(most.as_secs()).unwrap_or(c_int::MAX);
    // SAFETY: the domain is borrowed for the call, which does not keep it.
    if unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), seconds, 0) } < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// Has a guest's agent freeze all of the guest's file systems; how many these are.
pub(super) fn freeze(domain: &Domain) -> Result<u32, Error> {
    // SAFETY: the domain is borrowed for the call; no list stands for all mount points (virDomainFSFreeze's manual).
    let count = unsafe { sys::virDomainFSFreeze(domain.as_ptr(), std::ptr::null_mut(), 0, 0) };
    u32::try_from(count).map_err(|_| Error::last_error())
}

/// Has a guest's agent thaw all of the guest's file systems.
pub(super) fn thaw(domain: &Domain) -> Result<(), Error> {
    // SAFETY: as with the freeze.
    if unsafe { sys::virDomainFSThaw(domain.as_ptr(), std::ptr::null_mut(), 0, 0) } < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// A job of a domain: the one that is under way, or the last that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// How it stands, or that there is none: `VIR_DOMAIN_JOB_*`.
    pub(super) kind: u32,
    /// What it does: `VIR_DOMAIN_JOB_OPERATION_*`.
    pub(super) operation: u32,
    /// Whether it has failed.
    pub(super) has_failed: bool,
    /// Why, where that is told.
    pub(super) error: Option<String>,
    /// The bytes of disks that it has come through, of all that it has to; 0 where that is not told.
    pub(super) done: u64,
    /// See `done`.
    pub(super) total: u64,
}

/// Asks for a domain's job. (The crate's form of this reads a list that is not there where there is none.)
pub(super) fn job(domain: &Domain, flags: sys::virDomainGetJobStatsFlags) -> Result<Job, Error> {
    let (mut kind, mut params, mut count) = (0, std::ptr::null_mut(), 0);
    // SAFETY: the domain is borrowed for the call, which writes the three that it is given.
    let answer = unsafe {
        sys::virDomainGetJobStats(
            domain.as_ptr(),
            &raw mut kind,
            &raw mut params,
            &raw mut count,
            flags,
        )
    };
    if answer < 0 {
        return Err(Error::last_error());
    }
    let (mut operation, mut success, mut text) = (0, 1, std::ptr::null());
    let (mut done, mut total) = (0, 0);
    if !params.is_null() {
        // SAFETY: there are `count` parameters, which libvirt looks for these names in and writes what it finds, each
        // of the type that its function has; what is not there is left as it is.
        unsafe {
            sys::virTypedParamsGetInt(
                params,
                count,
                sys::VIR_DOMAIN_JOB_OPERATION.as_ptr(),
                &raw mut operation,
            );
            sys::virTypedParamsGetBoolean(
                params,
                count,
                sys::VIR_DOMAIN_JOB_SUCCESS.as_ptr(),
                &raw mut success,
            );
            for (name, into) in [
                (sys::VIR_DOMAIN_JOB_DISK_PROCESSED, &raw mut done),
                (sys::VIR_DOMAIN_JOB_DISK_TOTAL, &raw mut total),
            ] {
                sys::virTypedParamsGetULLong(params, count, name.as_ptr(), into);
            }
            sys::virTypedParamsGetString(params, count, sys::VIR_DOMAIN_JOB_ERRMSG.as_ptr(), &raw mut text);
        }
    }
    // SAFETY: a text that was found is the parameters', and is copied before they go.
    let error = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
    // SAFETY: libvirt has made the list and given it to the caller; none is fine.
    unsafe { sys::virTypedParamsFree(params, count) };
    Ok(Job {
        kind: kind.cast_unsigned(),
        operation: operation.cast_unsigned(),
        has_failed: success == 0,
        error,
        done,
        total,
    })
}

/// Ends the job that is under way for a domain.
pub(super) fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the domain is borrowed for the call, which does not keep it.
    if unsafe { sys::virDomainAbortJob(domain.as_ptr()) } < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// Called with the domain's name, the event and its detail, on the event loop's thread.
pub(super) type Callback = Box<dyn Fn(&str, u32, u32) + Send + Sync>;

/// Which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Started, stopped and so on, with a detail.
    Lifecycle,
    /// The guest started over.
    Reboot,
    /// The guest has let go of a device.
    Unplug,
}

/// Calls `callback` for every event of the kind, of every domain, for as long as the connection is open.
pub(super) fn listen(connection: &Connect, kind: Kind, callback: Callback) -> Result<(), Error> {
    let (id, function) = match kind {
        // SAFETY: libvirt calls a callback with the arguments of the event it was registered for, whatever
        // the type it was cast to for the registration (virConnectDomainEventRegisterAny's manual).
        Kind::Lifecycle => (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, unsafe {
            std::mem::transmute::<LifecycleCallback, GenericCallback>(on_lifecycle)
        }),
        Kind::Reboot => (sys::VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot as GenericCallback),
        // SAFETY: as with the first.
        Kind::Unplug => (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, unsafe {
            std::mem::transmute::<UnplugCallback, GenericCallback>(on_unplug)
        }),
    };
    // A box of a box: what the pointer points to must be of known size.
    let opaque = Box::into_raw(Box::new(callback)).cast::<c_void>();
    // SAFETY: the connection is open while it is borrowed; `opaque` is owned by libvirt from here on, which
    // gives it to `free` once, after the last call of the callback.
    let registered = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connection.as_ptr(),
            std::ptr::null_mut(),
            id as c_int,
            Some(function),
            opaque,
            Some(free),
        )
    };
    if registered < 0 {
        // SAFETY: libvirt did not take it.
        unsafe { free(opaque) };
        return Err(Error::last_error());
    }
    Ok(())
}

/// A file that can be waited for. Needs a Tokio runtime.
pub(super) fn watched(file: File) -> std::io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor, keeps it open for as long as it lives and never changes it; it
    // lives in the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(file) }?)
}

type GenericCallback = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type LifecycleCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;

type UnplugCallback = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);

unsafe extern "C" fn on_unplug(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt passes a live domain and the pointer that was registered.
    unsafe { call(domain, 0, 0, opaque) };
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt passes a live domain and the pointer that was registered.
    unsafe { call(domain, event, detail, opaque) };
    0
}

unsafe extern "C" fn on_reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: libvirt passes a live domain and the pointer that was registered.
    unsafe { call(domain, 0, 0, opaque) };
}

/// # Safety
/// `domain` is live and `opaque` comes from [`listen`].
unsafe fn call(domain: sys::virDomainPtr, event: c_int, detail: c_int, opaque: *mut c_void) {
    // SAFETY: the name belongs to the domain, which outlives this call; the callback is shared, and `Sync`.
    let (name, callback) = unsafe {
        let name = sys::virDomainGetName(domain);
        if name.is_null() {
            return;
        }
        (CStr::from_ptr(name), &*opaque.cast::<Callback>())
    };
    let (Ok(name), Ok(event), Ok(detail)) = (name.to_str(), u32::try_from(event), u32::try_from(detail))
    else {
        return;
    };
    // A panic must not go through libvirt's frames.
    drop(catch_unwind(AssertUnwindSafe(|| callback(name, event, detail))));
}

unsafe extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: it comes from `Box::into_raw` in `listen`, and libvirt calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<Callback>()) });
}
