package sidecar_test

import (
	"context"
	"errors"
	"testing"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

// What cannot be is refused at once, and the field is named. Go's types leave less of it than those of other languages do.
func TestWhatCannotBeIsRefused(t *testing.T) {
	f := newFake(t)
	f.start()
	node := connected(t, f)
	ctx := t.Context()
	const bad = "no text: \xff"
	handler := func(context.Context, *sidecar.Request) ([]byte, error) { return nil, nil }
	for _, wrong := range []struct {
		field string
		call  func() error
	}{
		{"topics", func() error { _, err := node.Subscribe(ctx, []string{"x", bad}); return err }},
		{"topic", func() error { _, err := node.Publish(ctx, bad, nil); return err }},
		{"topic", func() error { _, err := node.PublishAsync(ctx, bad, nil).Wait(); return err }},
		{"topic", func() error { _, err := node.PublishFrom(ctx, bad, nil); return err }},
		{"request_id", func() error { _, err := node.Publish(ctx, "x", nil, sidecar.WithRequestID(bad)); return err }},
		{"peer_id", func() error { _, err := node.Send(ctx, bad, "/x/1", nil); return err }},
		{"protocol", func() error { _, err := node.SendFrom(ctx, other, bad, nil); return err }},
		{"protocols", func() error { _, err := node.Receive(ctx, []string{bad}); return err }},
		{"protocol", func() error { _, err := node.Request(ctx, other, bad, nil); return err }},
		{"traceparent", func() error {
			_, err := node.Request(ctx, other, "/x/1", nil, sidecar.WithTraceparent(bad))
			return err
		}},
		{"protocols", func() error { _, err := node.Serve(ctx, []string{bad}, handler); return err }},
		{"handler", func() error { _, err := node.Serve(ctx, []string{"/x/1"}, nil); return err }},
		{"concurrency", func() error {
			_, err := node.Serve(ctx, []string{"/x/1"}, handler, sidecar.WithConcurrency(0))
			return err
		}},
		{"peer_id", func() error { _, err := node.OpenStream(ctx, bad, "/x/1"); return err }},
		{"protocols", func() error { _, err := node.OpenStream(ctx, other, "/x/1", bad); return err }},
		{"protocols", func() error { _, err := node.AcceptStreams(ctx, bad); return err }},
		{"peer_id", func() error { _, err := node.FindPeer(ctx, bad); return err }},
		{"addresses", func() error { _, err := node.ConnectPeer(ctx, other, bad); return err }},
		{"network", func() error { _, err := node.BanPeer(ctx, "", bad); return err }},
		{"part", func() error { _, err := node.SetLogLevel(ctx, bad, ""); return err }},
		{"name", func() error { _, err := node.Advertise(ctx, bad); return err }},
		{"ttl", func() error { _, err := node.Advertise(ctx, "x", sidecar.WithTTL(-time.Second)); return err }},
		{"name", func() error {
			for _, err := range node.FindPeers(ctx, bad) {
				return err
			}
			return nil
		}},
		{"wait", func() error {
			_, err := sidecar.Connect(ctx, sidecar.WithTarget(node.Target()), sidecar.WithWait(-time.Second))
			return err
		}},
	} {
		err := wrong.call()
		var typed *sidecar.Error
		if !errors.Is(err, sidecar.ErrInvalidArgument) || !errors.As(err, &typed) || typed.Field != wrong.field {
			t.Errorf("%s: %v", wrong.field, err)
		}
	}
}
