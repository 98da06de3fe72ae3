//! What the kernel half and the user-space half share.
#![no_std]
