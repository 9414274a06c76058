// Service counts words for apps at other peers, and asks for it.
//
//	go run ./examples/service serve            serve, and be found by the service's name
//	go run ./examples/service ask TEXT         find somebody who serves, and ask
//	go run ./examples/service ask TEXT PEER    ask that peer
//
// A request is text in UTF-8, the response JSON: {"words": 3, "letters": 12}. SIDECAR_API says where the sidecar is.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

const (
	protocol = "/example/words/1"
	name     = "example-words" // advertised through the DHT
	timeout  = 5 * time.Second // for one answer
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	words := os.Args[1:]
	var err error
	switch {
	case len(words) == 1 && words[0] == "serve":
		err = serve(ctx)
	case len(words) == 2 && words[0] == "ask":
		err = find(ctx, words[1])
	case len(words) == 3 && words[0] == "ask":
		err = ask(ctx, words[1], words[2])
	default:
		fmt.Fprintln(os.Stderr, "usage: service serve | service ask TEXT [PEER]")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// count is the handler: it returns the response, or refuses.
func count(_ context.Context, request *sidecar.Request) ([]byte, error) {
	if !utf8.Valid(request.Data) {
		return nil, sidecar.Refuse("this is not UTF-8")
	}
	words := strings.Fields(string(request.Data))
	letters := 0
	for _, word := range words {
		letters += utf8.RuneCountInString(word)
	}
	return json.Marshal(map[string]int{"words": len(words), "letters": letters})
}

func serve(ctx context.Context) error {
	node, err := sidecar.Connect(ctx)
	if err != nil {
		return err
	}
	defer node.Close()
	info, err := node.Info(ctx)
	if err != nil {
		return err
	}
	server, err := node.Serve(ctx, []string{protocol}, count)
	if err != nil {
		return err
	}
	advertisement, err := node.Advertise(ctx, name)
	if err != nil {
		return err
	}
	defer advertisement.Close()
	fmt.Println("serving as", info.PeerID)
	if err := server.Wait(); ctx.Err() == nil {
		return err
	}
	return nil // it was told to end
}

func ask(ctx context.Context, text, peerID string) error {
	node, err := sidecar.Connect(ctx)
	if err != nil {
		return err
	}
	defer node.Close()
	return askPeer(ctx, node, text, peerID)
}

func askPeer(ctx context.Context, node *sidecar.Client, text, peerID string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := node.Request(ctx, peerID, protocol, []byte(text))
	if err == nil {
		fmt.Println(string(answer))
	}
	return err
}

func find(ctx context.Context, text string) error {
	node, err := sidecar.Connect(ctx)
	if err != nil {
		return err
	}
	defer node.Close()
	for found, err := range node.FindPeers(ctx, name) {
		if err != nil {
			return err
		}
		if err := askPeer(ctx, node, text, found.PeerID); err != nil {
			fmt.Fprintf(os.Stderr, "%s does not answer: %v\n", found.PeerID, err)
			continue
		}
		return nil
	}
	return errors.New("nobody serves it")
}
