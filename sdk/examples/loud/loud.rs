// SPDX-License-Identifier: Apache-2.0
//! No shouting, in Rust: a message in capitals alone is refused.
//!
//! `chatd.rs` beside it is made from <chatd/plugin.h> by rust-bindings.py; rustc alone builds it:
//!
//!     rust-bindings.py $(pkg-config --variable=includedir chatd-plugin)/chatd/plugin.h > chatd.rs
//!     rustc --edition 2021 --crate-type cdylib -C panic=abort -O -o loud.so loud.rs
//!
//! The contract is C: what the server gives is borrowed, and no panic may leave a callback (abort
//! it is, then).
#![allow(non_camel_case_types, non_upper_case_globals, dead_code)]

mod chatd;

use chatd::*;
use std::os::raw::{c_char, c_void};

const ENOMEM: i32 = 12;

struct Own {
    h: *const chatd_host,
}

/// Borrowed text of the server's.
unsafe fn bytes<'a>(s: chatd_str) -> &'a [u8] {
    if s.p.is_null() {
        &[]
    } else {
        std::slice::from_raw_parts(s.p as *const u8, s.n)
    }
}

fn shouts(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    letters >= 4 && !text.chars().any(|c| c.is_lowercase())
}

unsafe extern "C" fn on_message_in(
    call: *mut chatd_call,
    own: *mut c_void,
    _wself: *mut c_void,
) -> chatd_verdict {
    let h = &*(*(own as *const Own)).h;
    let body = bytes((h.msg_body)((h.call_msg)(call)));
    match std::str::from_utf8(body) {
        Ok(text) if shouts(text) => (h.reject)(
            call,
            b"VALIDATION\0".as_ptr() as *const c_char,
            b"no shouting, please\0".as_ptr() as *const c_char,
        ),
        _ => CHATD_NEXT,
    }
}

unsafe extern "C" fn init(
    h: *const chatd_host,
    ctx: *mut chatd_ctx,
    _conf: *const c_void,
    ret_own: *mut *mut c_void,
) -> chatd_status {
    let own = ((*h).mem_alloc)(std::mem::size_of::<Own>()) as *mut Own;
    if own.is_null() {
        return -ENOMEM;
    }
    (*own).h = h;
    *ret_own = own as *mut c_void;
    ((*h).hook)(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in)
}

unsafe extern "C" fn fini(own: *mut c_void) {
    let own = own as *mut Own;
    let h = (*own).h;
    ((*h).mem_free)(own as *mut c_void);
}

#[no_mangle]
pub static chatd_plugin_v1: chatd_plugin = chatd_plugin {
    name: b"loud\0".as_ptr() as *const c_char,
    version: b"0.1\0".as_ptr() as *const c_char,
    summary: b"no shouting\0".as_ptr() as *const c_char,
    init: Some(init),
    fini: Some(fini),
    ..CHATD_PLUGIN_BLANK
};
