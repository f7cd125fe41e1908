package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// caProcess is the CA daemon: the driver of rollovers, and a control member like any other. Its arguments are the CA's
// directory, the member's own, and the address that it serves.
func caProcess(t *teller, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("a CA process wants two directories and an address, got %d arguments", len(args))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	shared, err := keystore.OpenDir(args[0])
	if err != nil {
		return err
	}
	own, err := keystore.OpenDir(args[1])
	if err != nil {
		return err
	}
	cluster, err := rotation.Open(ctx, rotation.Config{Keys: shared, Store: shared})
	if err != nil {
		return err
	}
	self, err := member.Open(ctx, member.Config{Keys: own, Store: own})
	if err != nil {
		return err
	}
	documents, err := self.Documents(ctx)
	if err != nil {
		return err
	}
	daemon := cluster.Daemon(self.Identity(), documents)
	go vital(t, func() error { return daemon.Run(ctx) })
	go vital(t, func() error { return self.Run(ctx, member.Direct(daemon)) })
	<-self.Ready()
	listener, err := net.Listen("tcp", args[2])
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, // else a peer that says nothing stays for ever
		Handler:           member.Handler(daemon),
		TLSConfig:         self.Live().ServerConfig(verify.AnyOf(fingerprint.Control, fingerprint.Node)),
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go vital(t, func() error { return server.ServeTLS(listener, "", "") })
	t.tell(event{Ready: listener.Addr().String()})
	for {
		if _, err := t.next(); err != nil {
			return err
		}
	}
}
