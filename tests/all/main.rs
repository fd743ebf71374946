//! The function as its callers meet it: the real binary, driven through the sandbox.

mod properties;
