//! Reads what certificates and revocation lists say that the TLS library keeps to itself: every alternative name, how
//! long they are valid, what a list's signature covers. It never verifies anything, and never believes a length.

/// The alternative names' object identifier, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;
const EXTENSIONS: u8 = 0xa3;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The number of a revocation list, 2.5.29.20.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
const LIST_EXTENSIONS: u8 = 0xa0;
/// `dNSName` among general names.
const DNS_NAME: u8 = 0x82;

/// From when and until when, in Unix seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// First second.
    pub from: u64,
    /// Last second; a revocation list should have a newer one by then.
    pub until: u64,
}

/// One alternative name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AltName<'a> {
    /// A DNS name's bytes.
    Dns(&'a [u8]),
    /// An address, a mail box, a URI, ...
    Other,
}

/// A revocation list's parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct List<'a> {
    /// Its issuer's name, as bytes.
    pub issuer: &'a [u8],
    /// When it was made and when the next is due.
    pub validity: Validity,
    /// Its number, without zeros before it; `None` where it has none.
    pub number: Option<&'a [u8]>,
    /// What the signature covers.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

/// A certificate's validity, or `None` when it cannot be read.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    let mut fields = certificate_fields(certificate)?;
    let _issuer = fields.expect(SEQUENCE)?;
    let mut validity = Reader(fields.expect(SEQUENCE)?);
    Some(Validity { from: validity.time()?, until: validity.time()? })
}

/// Every alternative name of a certificate; none when it has no such extension, `None` when it cannot be read.
#[must_use]
pub fn alt_names(certificate: &[u8]) -> Option<Vec<AltName<'_>>> {
    let mut fields = certificate_fields(certificate)?;
    let mut names = Vec::new();
    while !fields.0.is_empty() {
        let (tag, content, _) = fields.next()?;
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = Reader(Reader(content).expect(SEQUENCE)?);
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.expect(SEQUENCE)?);
            if extension.expect(OBJECT_IDENTIFIER)? == SUBJECT_ALT_NAME {
                names.extend(general_names(extension)?);
            }
        }
    }
    Some(names)
}

/// A revocation list's parts, or `None` when it cannot be read or does not say when the next is due.
#[must_use]
pub fn list(bytes: &[u8]) -> Option<List<'_>> {
    let mut outer = Reader(Reader(bytes).expect(SEQUENCE)?);
    let (tag, content, signed) = outer.next()?;
    let _algorithm = outer.expect(SEQUENCE)?;
    // Its first byte says how many bits at the end are none; there are no such signatures.
    let signature = outer.expect(BIT_STRING)?.strip_prefix(&[0])?;
    let mut fields = Reader(content);
    if tag != SEQUENCE {
        return None;
    }
    if fields.0.first() == Some(&INTEGER) {
        let _version = fields.next()?;
    }
    let _algorithm = fields.expect(SEQUENCE)?;
    let issuer = fields.expect(SEQUENCE)?;
    let validity = Validity { from: fields.time()?, until: fields.time()? };
    let number = list_number(fields)?;
    Some(List { issuer, validity, number, signed, signature })
}

/// The number among the extensions of a list, of which these fields are the end.
fn list_number(mut fields: Reader<'_>) -> Option<Option<&[u8]>> {
    let mut number = None;
    while !fields.0.is_empty() {
        let (tag, content, _) = fields.next()?;
        if tag != LIST_EXTENSIONS {
            // Who is revoked.
            continue;
        }
        let mut extensions = Reader(Reader(content).expect(SEQUENCE)?);
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.expect(SEQUENCE)?);
            if extension.expect(OBJECT_IDENTIFIER)? != CRL_NUMBER {
                continue;
            }
            let (mut tag, mut content, _) = extension.next()?;
            if tag != OCTET_STRING {
                // "critical" came first.
                (tag, content, _) = extension.next()?;
            }
            let bytes = Reader((tag == OCTET_STRING).then_some(content)?).expect(INTEGER)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            number = Some(bytes.get(zeros..)?);
        }
    }
    Some(number)
}

/// What follows version, serial number and algorithm.
fn certificate_fields(certificate: &[u8]) -> Option<Reader<'_>> {
    let mut fields = Reader(Reader(Reader(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    if fields.0.first() == Some(&EXPLICIT_VERSION) {
        let _version = fields.next()?;
    }
    let _serial = fields.expect(INTEGER)?;
    let _algorithm = fields.expect(SEQUENCE)?;
    Some(fields)
}

fn general_names(mut extension: Reader<'_>) -> Option<Vec<AltName<'_>>> {
    let (mut tag, mut content, _) = extension.next()?;
    if tag != OCTET_STRING {
        // "critical" came first.
        (tag, content, _) = extension.next()?;
    }
    let mut inside = Reader((tag == OCTET_STRING).then_some(content)?);
    let mut reader = Reader(inside.expect(SEQUENCE)?);
    let mut names = Vec::new();
    while !reader.0.is_empty() {
        let (tag, content, _) = reader.next()?;
        names.push(if tag == DNS_NAME { AltName::Dns(content) } else { AltName::Other });
    }
    Some(names)
}

/// Bytes not read yet.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next value: its tag, what it holds, and all of its bytes.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let all = self.0;
        let (&tag, rest) = all.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(first) {
            short @ 0..=0x7f => (short, rest),
            long @ 0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(long.checked_sub(0x80)?)?;
                let add =
                    |sum: usize, byte: &u8| sum.checked_mul(256)?.checked_add(usize::from(*byte));
                (bytes.iter().try_fold(0, add)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content, all.get(..all.len().checked_sub(rest.len())?)?))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (tag, content, _) = self.next()?;
        (tag == wanted).then_some(content)
    }

    /// A time in Unix seconds; those before 1970 count as 0.
    fn time(&mut self) -> Option<u64> {
        let (tag, content, _) = self.next()?;
        let digits = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = digits.split_at_checked(2)?;
                let year: i64 = year.parse().ok()?;
                (year.checked_add(if year < 50 { 2000 } else { 1900 })?, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = digits.split_at_checked(4)?;
                (year.parse().ok()?, rest)
            }
            _ => return None,
        };
        let two = |at: usize| -> Option<i64> { rest.get(at..at.checked_add(2)?)?.parse().ok() };
        if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let [month, day, hour, minute, second] = [two(0)?, two(2)?, two(4)?, two(6)?, two(8)?];
        let clock = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?;
        let days = days_since_1970(year, month, day)?.checked_mul(86_400)?;
        let seconds = days.checked_add(clock)?.checked_add(second)?;
        Some(u64::try_from(seconds).unwrap_or(0))
    }
}

/// Days of the Gregorian calendar; years begin in March, so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let month = month.checked_add(9)?.checked_rem(12)?;
    let before = month.checked_mul(153)?.checked_add(2)?.checked_div(5)?;
    let leaps = year.div_euclid(4).checked_sub(year.div_euclid(100))?;
    let leaps = leaps.checked_add(year.div_euclid(400))?;
    let days = year.checked_mul(365)?.checked_add(leaps)?;
    days.checked_add(before)?.checked_add(day)?.checked_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<u64> {
        let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
        bytes.extend(text.bytes());
        Reader(&bytes).time()
    }

    #[test]
    fn times_are_unix_seconds() {
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "000229120000Z"), Some(951_825_600));
        assert_eq!(time(GENERALIZED_TIME, "20261128101916Z"), Some(1_795_861_156));
        assert_eq!(time(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for bad in
            ["7001010000Z", "700101000000", "701301000000Z", "70010100000-Z", "Z", "é0101000000Z"]
        {
            assert_eq!(time(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_certificate_cut_anywhere_is_not_read() {
        let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let bytes = certificate.der();
        assert_eq!(alt_names(bytes), Some(vec![AltName::Dns(b"a")]));
        for end in 0..bytes.len() {
            assert_eq!(alt_names(&bytes[..end]), None, "{end}");
            assert_eq!(validity(&bytes[..end]), None, "{end}");
        }
    }
}
