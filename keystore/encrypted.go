package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
)

// An encrypted key file is two PEM elements, which openssl reads as they are: the public half in the clear, as the
// record of what the other must decrypt to, and the private key in PKCS#8 under PBES2 (RFC 8018 §6.2) with
// PBKDF2-HMAC-SHA256 and AES-256-CBC.
//
// Why that is enough: whoever gets the file must try passphrases, at 600,000 rounds each. CBC protects no integrity:
// who can write the file can turn bits of the key without knowing it. So a decrypted key counts only when it is whole,
// and its public half the recorded one; who exchanges both gets a key that no certificate of ours is for. Nobody can
// ask us often enough for a padding oracle to matter: who can hand us files can replace the key anyway, and a wrong
// padding and a wrong key are one error.

// Passphrase gives the passphrase of the key under a label: from a terminal, a file, a KMS; 1 to 1024 bytes, as they
// are. It may block, and is asked each time a key is made or opened; nothing is remembered. What it returns is cleared
// after use, so that it must be a copy. It is called by several goroutines at once. An error of it is passed on.
type Passphrase func(ctx context.Context, label string) ([]byte, error)

// ask asks, and wraps an error.
func (p Passphrase) ask(ctx context.Context, label string) ([]byte, error) {
	secret, err := p(ctx, label)
	if err == nil {
		return secret, nil
	}
	clear(secret)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		// A missing file with the passphrase must not read as a missing key: the caller would make a new one.
		return nil, fmt.Errorf("passphrase: %v", err)
	}
	return nil, fmt.Errorf("passphrase: %w", err)
}

// of is what parseKey takes: nil for keys in the clear.
func (p Passphrase) of(ctx context.Context, label string) func() ([]byte, error) {
	if p == nil {
		return nil
	}
	return func() ([]byte, error) { return p.ask(ctx, label) }
}

// ErrPassphrase is wrapped when a key file cannot be decrypted: the passphrase is another, or the file is damaged.
var ErrPassphrase = errors.New("wrong passphrase, or the file is damaged")

var (
	oidPBES2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// recrypt makes our form of any that openssl reads.
const recrypt = "openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter 600000 converts it"

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5958 §3), its parameters unpacked.
type encryptedKey struct {
	salt, iv, sealed []byte
	rounds           int
}

type (
	sealedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Sealed    []byte
	}
	pbes2 struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	// kdf is PBKDF2-params (RFC 8018 A.2). An absent PRF is HMAC-SHA1.
	kdf struct {
		Salt      []byte
		Rounds    int
		KeyLength int                      `asn1:"optional"`
		PRF       pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// parseEncrypted judges the parameters before anything is computed: the file says how much work we are to do.
func parseEncrypted(der []byte) (encryptedKey, error) {
	var outer sealedKey
	var scheme pbes2
	var derive kdf
	var iv []byte
	if !exactly(der, &outer) {
		return encryptedKey{}, errors.New("not a whole encrypted PKCS#8 key with nothing after it")
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return encryptedKey{}, fmt.Errorf("encrypted by scheme %v, want PBES2: %s", outer.Algorithm.Algorithm, recrypt)
	}
	if !exactly(outer.Algorithm.Parameters.FullBytes, &scheme) {
		return encryptedKey{}, errors.New("its PBES2 parameters are malformed")
	}
	if !scheme.KDF.Algorithm.Equal(oidPBKDF2) {
		return encryptedKey{}, fmt.Errorf("its key is derived by %v, want PBKDF2: %s", scheme.KDF.Algorithm, recrypt)
	}
	if !scheme.Cipher.Algorithm.Equal(oidAES256CBC) {
		return encryptedKey{}, fmt.Errorf("encrypted by cipher %v, want AES-256-CBC: %s", scheme.Cipher.Algorithm, recrypt)
	}
	if !exactly(scheme.KDF.Parameters.FullBytes, &derive) || !exactly(scheme.Cipher.Parameters.FullBytes, &iv) {
		return encryptedKey{}, errors.New("its PBKDF2 or AES parameters are malformed")
	}
	e := encryptedKey{salt: derive.Salt, iv: iv, sealed: outer.Sealed, rounds: derive.Rounds}
	return e, errors.Join(derive.judge(), e.judge())
}

func (k kdf) judge() error {
	null := k.PRF.Parameters.FullBytes
	switch {
	case !k.PRF.Algorithm.Equal(oidHMACSHA2):
		name := k.PRF.Algorithm.String()
		if name == "" {
			name = "the default, HMAC-SHA1"
		}
		return fmt.Errorf("its key is derived with %s, want HMAC-SHA256: %s", name, recrypt)
	case len(null) > 0 && !bytes.Equal(null, asn1.NullBytes) || k.KeyLength != 0 && k.KeyLength != keyLength:
		return errors.New("its PBKDF2 parameters do not fit AES-256")
	case k.Rounds < minRounds || k.Rounds > maxRounds:
		return fmt.Errorf("%d rounds of PBKDF2, want %d to %d: %s", k.Rounds, minRounds, maxRounds, recrypt)
	case len(k.Salt) < minSalt || len(k.Salt) > maxSalt:
		return fmt.Errorf("a salt of %d bytes, want %d to %d", len(k.Salt), minSalt, maxSalt)
	}
	return nil
}

func (e encryptedKey) judge() error {
	switch {
	case len(e.iv) != aes.BlockSize:
		return fmt.Errorf("an initialization vector of %d bytes, want %d", len(e.iv), aes.BlockSize)
	case len(e.sealed) == 0 || len(e.sealed)%aes.BlockSize != 0:
		return fmt.Errorf("%d encrypted bytes, which are no whole blocks: it was cut off", len(e.sealed))
	}
	return nil
}

// exactly reads DER whose only encoding these bytes are: encoding/asn1 lets data pass within and after a structure.
func exactly[T any](der []byte, into *T) bool {
	if rest, err := asn1.Unmarshal(der, into); err != nil || len(rest) > 0 {
		return false
	}
	again, err := asn1.Marshal(*into)
	return err == nil && bytes.Equal(again, der)
}

// decrypt returns the private key in PKCS#8, which the caller clears. The error wraps ErrPassphrase.
func (e encryptedKey) decrypt(passphrase []byte) ([]byte, error) {
	block, err := e.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(e.sealed))
	cipher.NewCBCDecrypter(block, e.iv).CryptBlocks(plain, e.sealed)
	pad := plain[len(plain)-1]
	kept, ok := bytes.CutSuffix(plain, bytes.Repeat([]byte{pad}, int(pad)))
	if !ok || pad == 0 || pad > aes.BlockSize {
		clear(plain)
		return nil, ErrPassphrase
	}
	return kept, nil
}

// encryptPKCS8 is the inverse of decrypt, with the given rounds. The encryption is new each time.
func encryptPKCS8(plain, passphrase []byte, rounds int) ([]byte, error) {
	e := encryptedKey{salt: make([]byte, saltSize), iv: make([]byte, aes.BlockSize), rounds: rounds}
	rand.Read(e.salt)
	rand.Read(e.iv)
	block, err := e.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	e.sealed = make([]byte, len(plain), len(plain)+pad)
	copy(e.sealed, plain)
	e.sealed = append(e.sealed, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, e.iv).CryptBlocks(e.sealed, e.sealed)
	return e.marshal()
}

func (e encryptedKey) cipher(passphrase []byte) (cipher.Block, error) {
	if len(passphrase) == 0 || len(passphrase) > maxPassphrase {
		return nil, fmt.Errorf("a passphrase of %d bytes, want 1 to %d", len(passphrase), maxPassphrase)
	}
	key, err := pbkdf2.Key(sha256.New, string(passphrase), e.salt, e.rounds, keyLength)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return aes.NewCipher(key)
}

func (e encryptedKey) marshal() ([]byte, error) {
	derive, err := identify(oidPBKDF2, kdf{
		Salt: e.salt, Rounds: e.rounds, PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA2, Parameters: asn1.NullRawValue},
	})
	if err != nil {
		return nil, err
	}
	encrypt, err := identify(oidAES256CBC, e.iv)
	if err != nil {
		return nil, err
	}
	scheme, err := identify(oidPBES2, pbes2{derive, encrypt})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(sealedKey{scheme, e.sealed})
}

func identify(algorithm asn1.ObjectIdentifier, parameters any) (pkix.AlgorithmIdentifier, error) {
	der, err := asn1.Marshal(parameters)
	return pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: asn1.RawValue{FullBytes: der}}, err
}

// encodeEncrypted makes an encrypted key file.
func encodeEncrypted(key crypto.Signer, passphrase []byte, rounds int) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	sealed, err := encryptPKCS8(der, passphrase, rounds)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	// The recorded half stands first: openssl pkey -pubin then needs no passphrase.
	recorded := pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: public})
	return append(recorded, pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: sealed})...), nil
}

// openEncrypted decrypts a key that counts only if its public half is the recorded one (PKIX, DER).
func openEncrypted(sealed, recorded, passphrase []byte) (crypto.Signer, error) {
	e, err := parseEncrypted(sealed)
	if err != nil {
		return nil, err
	}
	der, err := e.decrypt(passphrase)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := parsePKCS8(der)
	if err != nil {
		// One wrong passphrase in 256 leaves what looks like padding.
		return nil, ErrPassphrase
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil || !bytes.Equal(public, recorded) {
		return nil, fmt.Errorf("what is encrypted is not the private half of its %s: %w", pemPublic, ErrPassphrase)
	}
	return key, nil
}
