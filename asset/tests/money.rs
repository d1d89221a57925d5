//! Money over the whole range, against arithmetic done by hand on lists of digits.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use asset::unit::BITCOIN_UNITS;
use asset::{Amount, BTC, DecimalError, FeeRate, Percent, SAT, decimal};
use proptest::prelude::*;

/// A number as decimal digits, least first: school arithmetic that cannot wrap.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Digits(Vec<u8>);

impl Digits {
    fn of(number: u128) -> Self {
        Self(number.to_string().bytes().rev().map(|b| b - b'0').collect()).trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn plus(&self, other: &Self) -> Self {
        let mut carry = 0;
        let mut sum = Vec::new();
        for place in 0..=self.0.len().max(other.0.len()) {
            let column = self.at(place) + other.at(place) + carry;
            sum.push(column % 10);
            carry = column / 10;
        }
        Self(sum).trimmed()
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = Self(Vec::new());
        for (place, digit) in other.0.iter().enumerate() {
            let mut row = Self(vec![0; place]);
            row.0.extend(&self.0);
            for _ in 0..*digit {
                product = product.plus(&row);
            }
        }
        product
    }

    fn at(&self, place: usize) -> u8 {
        self.0.get(place).copied().unwrap_or(0)
    }

    fn at_most(&self, other: &Self) -> bool {
        let longest = self.0.len().max(other.0.len());
        let order = (0..longest).rev().map(|place| self.at(place).cmp(&other.at(place)));
        order.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).is_le()
    }

    fn fits(&self) -> bool {
        self.at_most(&Self::of(u128::MAX))
    }
}

fn units() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        any::<u64>().prop_map(u128::from),
        (0..1_000_u128).prop_map(|below| u128::MAX - below),
        0..1_000_u128,
        (0..128_u32, any::<u128>()).prop_map(|(shift, bits)| bits >> shift),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    #[test]
    fn checked_arithmetic_is_school_arithmetic(a in units(), b in units()) {
        let (x, y) = (Amount::from_units(a), Amount::from_units(b));
        let sum = Digits::of(a).plus(&Digits::of(b));
        let found = x.checked_add(y);
        prop_assert_eq!(found.is_some(), sum.fits());
        prop_assert_eq!(Amount::sum([x, y]), found);
        if let Some(found) = found {
            prop_assert_eq!(Digits::of(found.units()), sum);
            prop_assert_eq!(found.checked_sub(y), Some(x));
        }
        prop_assert_eq!(x.checked_sub(y).is_some(), Digits::of(b).at_most(&Digits::of(a)));
        let product = Digits::of(a).times(&Digits::of(b));
        let found = x.checked_mul(b);
        prop_assert_eq!(found.is_some(), product.fits());
        if let Some(found) = found {
            prop_assert_eq!(Digits::of(found.units()), product);
        }
    }

    #[test]
    fn every_form_comes_back(number in units()) {
        let amount = Amount::from_units(number);
        prop_assert_eq!(Amount::from_be_slice(&amount.to_be_bytes()).unwrap(), amount);
        prop_assert_eq!(Amount::parse_units(&amount.to_string()).unwrap(), amount);
        for unit in BITCOIN_UNITS {
            let text = amount.format_with(unit);
            prop_assert_eq!(Amount::parse_with(&text, &BITCOIN_UNITS).unwrap(), amount, "{}", text);
        }
        let json = serde_json::to_string(&amount).unwrap();
        prop_assert_eq!(&json, &format!("\"{number}\""));
        prop_assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
        prop_assert_eq!(u64::try_from(amount).ok(), u64::try_from(number).ok());
    }

    #[test]
    fn stored_bytes_sort_as_amounts_do(a in units(), b in units()) {
        let (x, y) = (Amount::from_units(a), Amount::from_units(b));
        prop_assert_eq!(x.cmp(&y), x.to_be_bytes().cmp(&y.to_be_bytes()));
    }

    #[test]
    fn any_number_of_decimals_comes_back(number in units(), decimals in 0..=60_u8) {
        let text = decimal::format(number, decimals);
        prop_assert!(!text.contains('.') || !text.ends_with('0'), "{}", text);
        prop_assert_eq!(decimal::parse(&text, decimals), Ok(number), "{}", text);
    }

    #[test]
    fn text_is_read_as_digits_are(text in "[0-9]{0,42}(\\.[0-9]{0,12})?", decimals in 0..=12_u8) {
        let found = decimal::parse(&text, decimals);
        prop_assert_eq!(found.ok(), naive(&text, decimals), "{}", text);
    }

    #[test]
    fn odd_text_is_refused(text in "[-+0-9eE._, ]{0,12}", decimals in 0..=12_u8) {
        let found = decimal::parse(&text, decimals);
        prop_assert_eq!(found.ok(), naive(&text, decimals), "{}", text);
    }

    #[test]
    fn nothing_at_all_panics(text in "\\PC{0,40}", decimals in any::<u8>()) {
        let _ = decimal::parse(&text, decimals);
        let _ = Amount::parse_with(&text, &BITCOIN_UNITS);
        let _ = FeeRate::parse(&text);
        let _ = Percent::parse(&text);
    }

    #[test]
    fn a_fee_rate_is_compared_exactly(rate in any::<u64>(), vsize in any::<u64>(), fee in units()) {
        let fee_rate = FeeRate::from_sat_per_kvb(rate);
        prop_assert_eq!(FeeRate::parse(&fee_rate.to_string()).unwrap(), fee_rate);
        let least = fee_rate.fee_for(vsize);
        let most = Digits::of(u128::from(rate)).times(&Digits::of(u128::from(vsize)));
        let paid = |units: u128| Digits::of(units).times(&Digits::of(1000));
        prop_assert!(most.at_most(&paid(least.units())));
        if let Some(less) = least.units().checked_sub(1) {
            prop_assert!(!most.at_most(&paid(less)));
        }
        let expected = paid(fee).fits().then(|| paid(fee).at_most(&most));
        prop_assert_eq!(fee_rate.allows(Amount::from_units(fee), vsize), expected);
    }

    #[test]
    fn a_percentage_is_compared_exactly(
        millionths in 0..=1_000_000_u32,
        part in units(),
        whole in units(),
    ) {
        let percent = Percent::from_millionths(millionths).unwrap();
        prop_assert_eq!(Percent::parse(&percent.to_string()).unwrap(), percent);
        let scaled = Digits::of(part).times(&Digits::of(1_000_000));
        let share = Digits::of(whole).times(&Digits::of(u128::from(millionths)));
        let fits = scaled.fits() && share.fits();
        let (part, whole) = (Amount::from_units(part), Amount::from_units(whole));
        prop_assert_eq!(percent.allows(part, whole), fits.then(|| scaled.at_most(&share)));
        prop_assert_eq!(percent.reached_by(part, whole), fits.then(|| share.at_most(&scaled)));
    }
}

/// What a number's text means, by moving the point through the text itself.
fn naive(text: &str, decimals: u8) -> Option<u128> {
    let pieces: Vec<&str> = text.split('.').collect();
    let (whole, fraction) = match pieces.as_slice() {
        [whole] => (*whole, ""),
        [whole, fraction] if !fraction.is_empty() => (*whole, *fraction),
        _ => return None,
    };
    let all_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let plain = !whole.is_empty() && (whole == "0" || !whole.starts_with('0'));
    if !plain || !all_digits(whole) || !all_digits(fraction) || fraction.len() > decimals.into() {
        return None;
    }
    format!("{whole}{fraction:0<width$}", width = decimals.into()).parse().ok()
}

#[test]
fn people_write_amounts() {
    let read = |text| Amount::parse_with(text, &BITCOIN_UNITS);
    assert_eq!(read("0.5 BTC"), Ok(Amount::from(50_000_000_u64)));
    assert_eq!(read("50000 sat"), Ok(Amount::from(50_000_u64)));
    assert_eq!(read("0.00000001 BTC"), Ok(Amount::from(1_u64)));
    assert_eq!(read("0 sat"), Ok(Amount::ZERO));
    assert_eq!(Amount::from(50_000_000_u64).format_with(BTC), "0.5 BTC");
    assert_eq!(Amount::from(1_u64).format_with(BTC), "0.00000001 BTC");
    assert_eq!(Amount::ZERO.format_with(BTC), "0 BTC");
    assert_eq!(Amount::MAX.format_with(SAT), "340282366920938463463374607431768211455 sat");
}

#[test]
fn each_mistake_has_its_name() {
    let read = |text| Amount::parse_with(text, &BITCOIN_UNITS).unwrap_err();
    assert_eq!(read("0.5"), DecimalError::NoUnit);
    assert_eq!(read(" BTC"), DecimalError::Empty);
    assert_eq!(read("-1 BTC"), DecimalError::Sign);
    assert_eq!(read("+1 BTC"), DecimalError::Sign);
    assert_eq!(read("1e8 sat"), DecimalError::Exponent);
    assert_eq!(read("0.123456789 BTC"), DecimalError::TooManyDecimals { most: 8, found: 9 });
    assert_eq!(read("0.5 sat"), DecimalError::TooManyDecimals { most: 0, found: 1 });
    assert_eq!(read("01 BTC"), DecimalError::LeadingZero);
    assert_eq!(read(".5 BTC"), DecimalError::NotDecimal);
    assert_eq!(read("5. BTC"), DecimalError::NotDecimal);
    assert_eq!(read("1,5 BTC"), DecimalError::NotDecimal);
    assert_eq!(read("1_000 sat"), DecimalError::NotDecimal);
    assert_eq!(read("1  sat"), DecimalError::UnknownUnit(" sat".into()));
    assert_eq!(read("1 btc"), DecimalError::UnknownUnit("btc".into()));
    assert_eq!(read("1 sat/vB"), DecimalError::UnknownUnit("sat/vB".into()));
    assert_eq!(read("340282366920938463463374607431768211456 sat"), DecimalError::Overflow);
    assert_eq!(read("99999999999999999999999999999999 BTC"), DecimalError::Overflow);
    assert!(Amount::from_be_slice(&[0; 15]).is_err());
    assert!(Amount::from_be_slice(&[0; 17]).is_err());
    assert!(Amount::parse_units("007").is_err());
    assert!(serde_json::from_str::<Amount>("7").is_err(), "never a JSON number");
}

#[test]
fn rates_and_percentages_read_exactly() {
    assert_eq!(FeeRate::parse("20 sat/vB").unwrap().sat_per_kvb(), 20_000);
    assert_eq!(FeeRate::parse("1.234 sat/vB").unwrap().sat_per_kvb(), 1_234);
    assert_eq!(FeeRate::parse("0.00001 BTC/kvB").unwrap().sat_per_kvb(), 1_000);
    assert_eq!(FeeRate::from_sat_per_kvb(1_500).to_string(), "1.5 sat/vB");
    assert!(FeeRate::parse("1.2345 sat/vB").is_err());
    assert!(FeeRate::parse("20 sat").is_err());
    assert!(FeeRate::parse("18446744073709552 sat/vB").is_err());
    assert_eq!(Percent::parse("1.5%").unwrap().millionths(), 15_000);
    assert_eq!(Percent::parse("100%").unwrap(), Percent::WHOLE);
    assert_eq!(Percent::from_millionths(1).unwrap().to_string(), "0.0001%");
    assert!(Percent::parse("100.0001%").is_err());
    assert!(Percent::parse("0.00001%").is_err());
    assert!(Percent::parse("1.5 %").is_err());
    assert!(Percent::parse("1.5").is_err());
    assert_eq!(Percent::from_millionths(1_000_001), None);
}
