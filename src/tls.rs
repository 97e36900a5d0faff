//! Which cryptography TLS is spoken with, to both sides.
//!
//! Keys, signatures and key exchange (X25519MLKEM768 first) are of aws-lc-rs. So is the encryption
//! of records, but on processors that have VAES without AVX-512 (AMD's Zen 3, Intel's without
//! AVX-512): aws-lc-rs has a kernel for AVX-512 and one of 2013, and `ring` has one between them.
//! AES-128-GCM, GB/s of one core: EPYC of Zen 3: ring 7.9, aws-lc-rs 4.1; with AVX-512: ring 10.2,
//! aws-lc-rs 18.8.

use std::sync::{Arc, LazyLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(provider_on(Processor::ours())));

/// What every TLS configuration of seawall is built with. Its cipher suites are in the order of
/// what they cost, the cheapest first.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Whether the processor knows AES: the order of a client that thinks otherwise costs seawall more
/// than it saves the client.
pub fn aes_in_hardware() -> bool {
    Processor::ours().aes
}

/// What of a processor decides who encrypts, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processor {
    aes: bool,
    /// Two blocks of AES, and two multiplications of GHASH, by one instruction.
    vaes: bool,
    /// Four.
    avx512: bool,
}

impl Processor {
    #[cfg(target_arch = "x86_64")]
    fn ours() -> Processor {
        use std::arch::is_x86_feature_detected as has;
        Processor {
            aes: has!("aes"),
            vaes: has!("vaes") && has!("vpclmulqdq") && has!("avx2"),
            avx512: has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl"),
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn ours() -> Processor {
        Processor { aes: std::arch::is_aarch64_feature_detected!("aes"), vaes: false, avx512: false }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn ours() -> Processor {
        Processor { aes: false, vaes: false, avx512: false }
    }

    fn suites(self) -> &'static [SupportedCipherSuite] {
        if self.vaes && !self.avx512 { ring::ALL_CIPHER_SUITES } else { aws_lc_rs::ALL_CIPHER_SUITES }
    }

    /// AES-128-GCM costs least where the processor knows AES, and most where it does not;
    /// ChaCha20-Poly1305 is between them.
    fn cost(self, suite: SupportedCipherSuite) -> u8 {
        let name = format!("{:?}", suite.suite());
        match (name.contains("AES_128_GCM"), name.contains("CHACHA20")) {
            (true, _) => 1,
            (_, true) if self.aes => 3,
            (_, true) => 0,
            _ => 2,
        }
    }
}

fn provider_on(processor: Processor) -> CryptoProvider {
    let mut cipher_suites = processor.suites().to_vec();
    cipher_suites.sort_by_key(|suite| processor.cost(*suite));
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Processor = Processor { aes: true, vaes: false, avx512: false };
    const ZEN3: Processor = Processor { aes: true, vaes: true, avx512: false };
    const NEW: Processor = Processor { aes: true, vaes: true, avx512: true };
    const NONE: Processor = Processor { aes: false, vaes: false, avx512: false };

    fn first(processor: Processor) -> String {
        format!("{:?}", provider_on(processor).cipher_suites[0].suite())
    }

    #[test]
    fn the_cheapest_suite_of_a_processor_comes_first() {
        for processor in [OLD, ZEN3, NEW] {
            assert_eq!(first(processor), "TLS13_AES_128_GCM_SHA256", "{processor:?}");
        }
        assert_eq!(first(NONE), "TLS13_CHACHA20_POLY1305_SHA256");
    }

    #[test]
    fn whoever_encrypts_the_same_is_offered_with_the_same_keys() {
        let names = |provider: &CryptoProvider| {
            let mut names: Vec<_> = provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
            names.sort();
            names
        };
        let (theirs, expected) = (provider_on(ZEN3), provider_on(NEW));
        assert_eq!(names(&theirs), names(&expected));
        assert_eq!(theirs.kx_groups[0].name(), expected.kx_groups[0].name());
    }

    #[test]
    fn ring_encrypts_where_it_is_the_faster_one_and_nowhere_else() {
        assert!(std::ptr::eq(ZEN3.suites(), ring::ALL_CIPHER_SUITES));
        for processor in [OLD, NEW, NONE] {
            assert!(std::ptr::eq(processor.suites(), aws_lc_rs::ALL_CIPHER_SUITES), "{processor:?}");
        }
        assert!(!std::ptr::eq(ring::ALL_CIPHER_SUITES, aws_lc_rs::ALL_CIPHER_SUITES));
    }
}
