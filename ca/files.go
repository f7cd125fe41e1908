package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	certificateBlock = "CERTIFICATE"
	requestBlock     = "CERTIFICATE REQUEST"
)

func encodeChain(certificates ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certificates {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c.Raw})...)
	}
	return b
}

// onlyBlock reads a file that is to hold one PEM block and nothing else.
func onlyBlock(file []byte, kind string, most int) ([]byte, error) {
	if len(file) > 2*most {
		return nil, fmt.Errorf("%d bytes of PEM, at most %d", len(file), 2*most)
	}
	blocks, err := readBlocks(file, kind, 1)
	if err != nil {
		return nil, err
	}
	return blocks[0], nil
}

// parseChain reads the certificates of a file: all of them, or an error that says which one is broken.
func parseChain(file []byte) ([]*x509.Certificate, error) {
	if len(file) > maxChainFile {
		return nil, fmt.Errorf("%d bytes of certificates, at most %d: %w", len(file), maxChainFile, ErrChain)
	}
	blocks, err := readBlocks(file, certificateBlock, maxChain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	var chain []*x509.Certificate
	for i, der := range blocks {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %d: %w: %w", i+1, len(blocks), ErrChain, err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// readBlocks reads 1 to most PEM blocks of one kind with nothing but white space around them. What pem.Decode would
// skip is refused: a block that it cannot read would be missing without a word, and a private key has no business here.
func readBlocks(file []byte, kind string, most int) (blocks [][]byte, err error) {
	for rest := bytes.TrimSpace(file); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, after := pem.Decode(rest)
		switch {
		case block == nil || !bytes.HasPrefix(rest, []byte("-----BEGIN ")) || !bytes.HasPrefix(rest, []byte("-----BEGIN "+block.Type+"-----")):
			return nil, fmt.Errorf("block %d is not readable as PEM, or has text before it", len(blocks)+1)
		case block.Type != kind:
			return nil, fmt.Errorf("block %d is a %.40q, want a %s", len(blocks)+1, block.Type, kind)
		case len(block.Headers) > 0:
			return nil, fmt.Errorf("block %d has headers", len(blocks)+1)
		case len(blocks) == most:
			return nil, fmt.Errorf("more than %d blocks", most)
		}
		blocks = append(blocks, block.Bytes)
		rest = after
	}
	if len(blocks) == 0 {
		return nil, errors.New("no PEM block of kind " + kind)
	}
	return blocks, nil
}
