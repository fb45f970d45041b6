//! The subset of MessagePack that the functions and this crate use with each other: arrays, whole numbers, bytes, and `false`
//! for what is absent.
//!
//! Bytes go as MessagePack strings, which to Lua are the same.

/// Writes values one after the other.
#[derive(Debug, Default, Clone)]
pub(crate) struct Packer(Vec<u8>);

impl Packer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Begins an array of `len` values.
    pub(crate) fn array(&mut self, len: usize) -> &mut Self {
        match u16::try_from(len) {
            Ok(len @ 0..=15) => self.0.push(0x90 | len as u8),
            Ok(len) => self.headed(0xdc, &len.to_be_bytes()),
            Err(_) => self.headed(0xdd, &length(len)),
        }
        self
    }

    pub(crate) fn uint(&mut self, n: u64) -> &mut Self {
        if let Ok(n @ 0..=0x7f) = u8::try_from(n) {
            self.0.push(n);
        } else if let Ok(n) = u8::try_from(n) {
            self.headed(0xcc, &[n]);
        } else if let Ok(n) = u16::try_from(n) {
            self.headed(0xcd, &n.to_be_bytes());
        } else if let Ok(n) = u32::try_from(n) {
            self.headed(0xce, &n.to_be_bytes());
        } else {
            self.headed(0xcf, &n.to_be_bytes());
        }
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if let Ok(len @ 0..=31) = u8::try_from(bytes.len()) {
            self.0.push(0xa0 | len);
        } else if let Ok(len) = u8::try_from(bytes.len()) {
            self.headed(0xd9, &[len]);
        } else if let Ok(len) = u16::try_from(bytes.len()) {
            self.headed(0xda, &len.to_be_bytes());
        } else {
            self.headed(0xdb, &length(bytes.len()));
        }
        self.0.extend_from_slice(bytes);
        self
    }

    /// Writes a raw number in this many bytes, the highest first. If it doesn't fit, its highest bytes are left out.
    pub(crate) fn number(&mut self, n: u64, bytes: usize) -> &mut Self {
        let all = n.to_be_bytes();
        self.0.extend_from_slice(&all[all.len() - bytes..]);
        self
    }

    /// Writes raw bytes after their length, which itself takes `length_bytes` bytes.
    pub(crate) fn counted(&mut self, bytes: &[u8], length_bytes: usize) -> &mut Self {
        self.number(bytes.len() as u64, length_bytes);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn flag(&mut self, is_set: bool) -> &mut Self {
        self.0.push(if is_set { 0xc3 } else { 0xc2 });
        self
    }

    pub(crate) fn absent(&mut self) -> &mut Self {
        self.0.push(0xc2);
        self
    }

    pub(crate) fn optional_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.absent(),
        }
    }

    pub(crate) fn optional_uint(&mut self, n: Option<u64>) -> &mut Self {
        match n {
            Some(n) => self.uint(n),
            None => self.absent(),
        }
    }

    fn headed(&mut self, head: u8, rest: &[u8]) {
        self.0.push(head);
        self.0.extend_from_slice(rest);
    }
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("redis takes no argument of 4 GiB, and none is made").to_be_bytes()
}

/// Error for bytes that are not what this version writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(pub(crate) &'static str);

/// Reads values one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads `count` raw bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Returns all the bytes that are left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Reads a raw number of this many bytes, the highest first.
    pub(crate) fn number(&mut self, bytes: usize) -> Result<u64, Unreadable> {
        Ok(self.take(bytes)?.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn head(&mut self) -> Result<u8, Unreadable> {
        Ok(self.take(1)?[0])
    }

    /// Reads the length of an array.
    pub(crate) fn array(&mut self) -> Result<usize, Unreadable> {
        let len = match self.head()? {
            head @ 0x90..=0x9f => u64::from(head & 0x0f),
            0xdc => self.number(2)?,
            0xdd => self.number(4)?,
            _ => return Err(Unreadable("there is no array where one should be")),
        };
        usize::try_from(len).map_err(|_| Unreadable("an array is too long"))
    }

    pub(crate) fn uint(&mut self) -> Result<u64, Unreadable> {
        match self.head()? {
            head @ 0..=0x7f => Ok(head.into()),
            0xcc => self.number(1),
            0xcd => self.number(2),
            0xce => self.number(4),
            0xcf => self.number(8),
            _ => Err(Unreadable("there is no whole number where one should be")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = match self.head()? {
            head @ 0xa0..=0xbf => u64::from(head & 0x1f),
            0xd9 => self.number(1)?,
            0xda => self.number(2)?,
            0xdb => self.number(4)?,
            _ => return Err(Unreadable("there are no bytes where some should be")),
        };
        self.take(usize::try_from(len).map_err(|_| Unreadable("some bytes are too many"))?)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable("a text is not UTF-8"))
    }

    /// Whether the next value is present; if it is absent, its mark is skipped.
    fn is_there(&mut self) -> bool {
        match self.0.split_first() {
            Some((0xc2, rest)) => {
                self.0 = rest;
                false
            }
            _ => true,
        }
    }

    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        if self.is_there() { read(self).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(n: u64, shift in 0..64u32, bytes: Vec<u8>, len in 0..100_000usize) {
            let n = n >> shift;
            let mut packer = Packer::default();
            packer.array(len).uint(n).bytes(&bytes).absent().optional_bytes(Some(&bytes)).optional_uint(Some(n));
            let packed = packer.into_bytes();
            let mut unpacker = Unpacker::new(&packed);
            prop_assert_eq!(unpacker.array(), Ok(len));
            prop_assert_eq!(unpacker.uint(), Ok(n));
            prop_assert_eq!(unpacker.bytes(), Ok(&bytes[..]));
            prop_assert_eq!(unpacker.optional(Unpacker::uint), Ok(None));
            prop_assert_eq!(unpacker.optional(Unpacker::bytes), Ok(Some(&bytes[..])));
            prop_assert_eq!(unpacker.optional(Unpacker::uint), Ok(Some(n)));
            prop_assert!(unpacker.rest().is_empty());
        }

        #[test]
        fn reading_any_bytes_never_panics(bytes: Vec<u8>) {
            let _ = (Unpacker::new(&bytes).array(), Unpacker::new(&bytes).bytes());
            let _ = (Unpacker::new(&bytes).uint(), Unpacker::new(&bytes).text());
        }
    }

    #[test]
    fn long_bytes_keep_their_length() {
        for len in [31, 32, 255, 256, 65_535, 65_536] {
            let bytes = vec![7; len];
            let mut packer = Packer::default();
            packer.bytes(&bytes);
            assert_eq!(Unpacker::new(&packer.into_bytes()).bytes(), Ok(&bytes[..]));
        }
    }
}
