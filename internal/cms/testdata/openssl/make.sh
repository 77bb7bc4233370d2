#!/bin/sh
# Makes every file of this folder anew with OpenSSL 3 (keys, certificates, and CMS structures over content.txt), so that the
# tests have what a peer wrote even where no openssl is installed. The keys protect nothing.
set -eu
cd "$(dirname "$0")"

printf 'Content-Type: text/plain; charset=us-ascii\r\n\r\nThe quick brown fox jumps over the lazy dog.\r\n' > content.txt

pair() { # name, then the options of genpkey
	name=$1; shift
	openssl genpkey "$@" -out "$name.key" 2>/dev/null
	openssl req -new -x509 -key "$name.key" -out "$name.crt" -days 7300 -subj "/O=Direct Node Test/CN=$name" \
		-addext "subjectAltName=email:$name@direct.test" -addext "basicConstraints=critical,CA:FALSE"
}
pair alice -algorithm RSA -pkeyopt rsa_keygen_bits:2048
pair bob -algorithm RSA -pkeyopt rsa_keygen_bits:2048
pair carol -algorithm EC -pkeyopt ec_paramgen_curve:P-256

sign() { # file, then further options
	out=$1; shift
	openssl cms -sign -binary -in content.txt -outform DER -out "$out" "$@"
}
sign signed-sha256.der -signer alice.crt -inkey alice.key -md sha256
sign signed-sha384.der -signer alice.crt -inkey alice.key -md sha384
sign signed-sha512.der -signer alice.crt -inkey alice.key -md sha512
sign signed-sha1.der -signer alice.crt -inkey alice.key -md sha1
sign signed-md5.der -signer alice.crt -inkey alice.key -md md5
sign signed-sha224.der -signer alice.crt -inkey alice.key -md sha224
sign signed-pss.der -signer alice.crt -inkey alice.key -md sha256 -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:digest
sign signed-pss-sha512.der -signer alice.crt -inkey alice.key -md sha512 -keyopt rsa_padding_mode:pss
sign signed-ecdsa.der -signer carol.crt -inkey carol.key -md sha256
sign signed-keyid.der -signer alice.crt -inkey alice.key -md sha256 -keyid
sign signed-noattr.der -signer alice.crt -inkey alice.key -md sha256 -noattr
sign signed-nocerts.der -signer alice.crt -inkey alice.key -md sha256 -nocerts
sign signed-opaque.der -signer alice.crt -inkey alice.key -md sha256 -nodetach
sign signed-opaque-ber.der -signer alice.crt -inkey alice.key -md sha256 -nodetach -stream
sign signed-two.der -signer alice.crt -inkey alice.key -signer carol.crt -inkey carol.key -md sha256
openssl crl2pkcs7 -nocrl -certfile alice.crt -certfile bob.crt -outform DER -out certs-only.p7c

seal() { # file, then options and recipients
	out=$1; shift
	openssl cms -encrypt -binary -in content.txt -outform DER -out "$out" "$@"
}
oaep="-keyopt rsa_padding_mode:oaep"
seal enveloped-aes128.der -aes-128-cbc -recip alice.crt
seal enveloped-aes192.der -aes-192-cbc -recip alice.crt
seal enveloped-aes256.der -aes-256-cbc -recip alice.crt
seal enveloped-oaep-sha1.der -aes-128-cbc -recip alice.crt $oaep
seal enveloped-oaep-sha256.der -aes-128-cbc -recip alice.crt $oaep -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha256
seal enveloped-oaep-sha256-mgf1.der -aes-128-cbc -recip alice.crt $oaep -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha1
seal enveloped-oaep-sha384.der -aes-256-cbc -recip alice.crt $oaep -keyopt rsa_oaep_md:sha384 -keyopt rsa_mgf1_md:sha384
seal enveloped-oaep-sha512.der -aes-256-cbc -recip alice.crt $oaep -keyopt rsa_oaep_md:sha512 -keyopt rsa_mgf1_md:sha512
seal enveloped-oaep-label.der -aes-128-cbc -recip alice.crt $oaep -keyopt rsa_oaep_label:646e
seal enveloped-keyid.der -aes-128-cbc -keyid -recip alice.crt
seal enveloped-ber.der -aes-128-cbc -stream -recip alice.crt
seal enveloped-ber-keyid.der -aes-256-cbc -stream -keyid -recip alice.crt
seal enveloped-two.der -aes-128-cbc -recip bob.crt -recip alice.crt
seal enveloped-mixed.der -aes-128-cbc -recip carol.crt -secretkey 000102030405060708090a0b0c0d0e0f -secretkeyid 00 -pwri_password x -recip alice.crt
seal enveloped-3des.der -des3 -recip alice.crt
seal enveloped-des.der -des-cbc -provider legacy -provider default -recip alice.crt
seal enveloped-rc2.der -rc2-cbc -provider legacy -provider default -recip alice.crt
seal authenveloped-gcm.der -aes-128-gcm -recip alice.crt
