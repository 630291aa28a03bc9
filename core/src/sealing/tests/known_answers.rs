//! The primitives against published answers. The same file is compiled into the guest whose speed `cargo xtask bench --sealing` measures, so that it holds there too.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Key, IV, plain text, associated data, ciphertext, tag.
///
/// NIST's Cryptographic Algorithm Validation Program, `gcmtestvectors.zip`, `gcmEncryptExtIV256.rsp`: the first of the sections named behind each, by the lengths of plain text and associated data in bits.
const GCM: [[&str; 6]; 7] = [
    // 0, 0
    [
        "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
        "516c33929df5a3284ff463d7",
        "",
        "",
        "",
        "bdc1ac884d332457a1d2664f168c76f0",
    ],
    // 0, 160
    [
        "886cff5f3e6b8d0e1ad0a38fcdb26de97e8acbe79f6bed66959a598fa5047d65",
        "3a8efa1cd74bbab5448f9945",
        "",
        "519fee519d25c7a304d6c6aa1897ee1eb8c59655",
        "",
        "f6d47505ec96c98a42dc3ae719877b87",
    ],
    // 128, 0
    [
        "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
        "0d18e06c7c725ac9e362e1ce",
        "2db5168e932556f8089a0622981d017d",
        "",
        "fa4362189661d163fcd6a56d8bf0405a",
        "d636ac1bbedd5cc3ee727dc2ab4a9489",
    ],
    // 128, 128
    [
        "92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b",
        "ac93a1a6145299bde902f21a",
        "2d71bcfa914e4ac045b2aa60955fad24",
        "1e0889016f67601c8ebea4943bc23ad6",
        "8995ae2e6df3dbf96fac7b7137bae67f",
        "eca5aa77d51d4a0a14d9c51e1da474ab",
    ],
    // 104, 160
    [
        "69b458f2644af9020463b40ee503cdf083d693815e2659051ae0d039e606a970",
        "8d1da8ab5f91ccd09205944b",
        "f3e0e09224256bf21a83a5de8d",
        "036ad5e5494ef817a8af2f5828784a4bfedd1653",
        "c0a62d77e6031bfdc6b13ae217",
        "a794a9aaee48cd92e47761bf1baff0af",
    ],
    // 408, 384
    [
        "463b412911767d57a0b33969e674ffe7845d313b88c6fe312f3d724be68e1fca",
        "611ce6f9a6880750de7da6cb",
        "e7d1dcf668e2876861940e012fe52a98dacbd78ab63c08842cc9801ea581682ad54af0c34d0d7f6f59e8ee0bf4900e0fd85042",
        "0a682fbc6192e1b47a5e0868787ffdafe5a50cead3575849990cdd2ea9b3597749403efb4a56684f0c6bde352d4aeec5",
        "8886e196010cb3849d9c1a182abe1eeab0a5f3ca423c3669a4a8703c0f146e8e956fb122e0d721b869d2b6fcd4216d7d4d3758",
        "2469cecd70fd98fec9264f71df1aee9a",
    ],
    // 408, 720
    [
        "148579a3cbca86d5520d66c0ec71ca5f7e41ba78e56dc6eebd566fed547fe691",
        "b08a5ea1927499c6ecbfd4e0",
        "9d0b15fdf1bd595f91f8b3abc0f7dec927dfd4799935a1795d9ce00c9b879434420fe42c275a7cd7b39d638fb81ca52b49dc41",
        "e4f963f015ffbb99ee3349bbaf7e8e8e6c2a71c230a48f9d59860a29091d2747e01a5ca572347e247d25f56ba7ae8e05cde2be3c97931292c02370208ecd097ef692687fecf2f419d3200162a6480a57dad408a0dfeb492e2c5d",
        "2097e372950a5e9383c675e89eea1c314f999159f5611344b298cda45e62843716f215f82ee663919c64002a5c198d7878fd3f",
        "adbecdb0d5c2224d804d2886ff9a5760",
    ],
];

/// Key, data, HMAC-SHA256: RFC 4231, §4.2 to §4.5 and §4.7. (§4.6 is about truncated output.)
const HMAC: [[&str; 3]; 5] = [
    ["0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"],
    [
        "4a656665",
        "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ],
    [
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ],
    [
        "0102030405060708090a0b0c0d0e0f10111213141516171819",
        "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ],
    [
        // A key that is longer than a block.
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b6579204669727374",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ],
];

/// Input key material, salt, info, pseudorandom key, output: RFC 5869, appendix A.1 to A.3.
const HKDF: [[&str; 5]; 3] = [
    [
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ],
    [
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
        "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ],
    [
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "",
        "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ],
];

/// Panics at the first answer that is another than the published one; else gives how many were compared.
pub(crate) fn check() -> usize {
    GCM.iter().for_each(|vector| gcm(vector.map(bytes)));
    HMAC.iter().for_each(|vector| hmac_sha256(vector.map(bytes)));
    HKDF.iter().for_each(|vector| hkdf_sha256(vector.map(bytes)));
    GCM.len() + HMAC.len() + HKDF.len()
}

fn gcm([key, iv, plain, associated, ciphertext, tag]: [Vec<u8>; 6]) {
    let cipher = Aes256Gcm::new_from_slice(&key).expect("a key of 256 bits");
    let nonce = Nonce::try_from(iv.as_slice()).expect("an IV of 96 bits");
    let mut sealed = vec![0; plain.len()];
    let buffer = InOutBuf::new(&plain, &mut sealed).expect("one length");
    let sealed_tag = cipher.encrypt_inout_detached(&nonce, &associated, buffer).expect("it is short");
    assert_eq!((&sealed, sealed_tag.as_slice()), (&ciphertext, tag.as_slice()));

    let mut opened = vec![0; ciphertext.len()];
    let mut open =
        |tag: &Tag| cipher.decrypt_inout_detached(&nonce, &associated, InOutBuf::new(&ciphertext, &mut opened).expect("one length"), tag);
    let mut other_tag = sealed_tag;
    other_tag[15] ^= 1;
    assert!(open(&other_tag).is_err());
    open(&sealed_tag).expect("its own tag");
    assert_eq!(opened, plain);
}

fn hmac_sha256([key, data, expected]: [Vec<u8>; 3]) {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(&data);
    assert_eq!(mac.finalize().into_bytes().as_slice(), expected);
}

fn hkdf_sha256([material, salt, info, expected_key, expected]: [Vec<u8>; 5]) {
    let (key, hkdf) = Hkdf::<Sha256>::extract(Some(&salt), &material);
    let mut output = vec![0; expected.len()];
    hkdf.expand(&info, &mut output).expect("it is short");
    assert_eq!((key.as_slice(), output), (expected_key.as_slice(), expected));
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}
