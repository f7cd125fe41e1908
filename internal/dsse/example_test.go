package dsse_test

import (
	"crypto"
	"crypto/ed25519"
	"fmt"

	"github.com/clusterca/clusterca/internal/dsse"
)

// A document is signed for one type, opened for one type and by known keys, and only then read.
func Example() {
	const kind = "application/vnd.example.greeting.v1+json"
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	envelope, err := dsse.Sign(kind, []byte(`{"text":"hello"}`), private)
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, _, err := dsse.Open(envelope, kind, []crypto.PublicKey{public})
	if err != nil {
		fmt.Println(err)
		return
	}
	var greeting struct {
		Text string `json:"text"`
	}
	fmt.Println(dsse.Decode(payload, &greeting), greeting.Text)

	_, err = dsse.Payload(envelope, "application/vnd.example.order.v1+json")
	fmt.Println(err)
	// Output:
	// <nil> hello
	// dsse: it is a "application/vnd.example.greeting.v1+json", not a "application/vnd.example.order.v1+json": not a signed document of the expected kind
}
