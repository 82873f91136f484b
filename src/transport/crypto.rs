//! The crypto provider of rustls, which is one for the whole process.

use rustls::crypto::CryptoProvider;

/// Returns true where there is a provider: the one that the program installed, or else the one of
/// the feature `rustls`, which is installed now.
///
/// rustls panics without one, and also where other crates of the program bring it more than one.
pub(crate) fn has_crypto_provider() -> bool {
    CryptoProvider::get_default().is_some() || install_own_provider()
}

#[cfg(feature = "rustls")]
fn install_own_provider() -> bool {
    // It fails where another thread was faster: then there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    true
}

#[cfg(not(feature = "rustls"))]
fn install_own_provider() -> bool {
    false
}
