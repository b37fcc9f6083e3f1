//! An adapter from today's random generators to the older `rand_core` that the RSA crate is built on.

use rand::CryptoRng;
use rsa::rand_core;

/// A generator of `rand` 0.10 under the traits of `rand_core` 0.6.
pub(crate) struct LegacyRng<'a, R: ?Sized>(pub(crate) &'a mut R);

impl<R: CryptoRng + ?Sized> rand_core::RngCore for LegacyRng<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

impl<R: CryptoRng + ?Sized> rand_core::CryptoRng for LegacyRng<'_, R> {}
