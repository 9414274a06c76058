// Chat is a chat for people in terminals: everybody on the topic "chat", from any language.
//
//	go run ./examples/chat NAME [TARGET]
//
// A message is JSON in UTF-8: {"from": "ann", "text": "hello"}. The end of the input (Ctrl-D) ends it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"unicode"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

const topic = "chat"

type said struct {
	From *string `json:"from"`
	Text *string `json:"text"`
}

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: chat NAME [TARGET]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := chat(ctx, os.Args[1], os.Args[2:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func chat(ctx context.Context, name string, target []string) error {
	var options []sidecar.Option
	for _, given := range target {
		options = append(options, sidecar.WithTarget(given))
	}
	node, err := sidecar.Connect(ctx, options...)
	if err != nil {
		return err
	}
	defer node.Close()
	info, err := node.Info(ctx)
	if err != nil {
		return err
	}
	news, err := node.Subscribe(ctx, []string{topic}) // in force from here on
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- listen(news, name, info.PeerID) }()
	fmt.Printf("You are %s. Type, and end with Ctrl-D.\n", name)
	lines := typed(ctx)
	for {
		select {
		case err := <-ended:
			return err
		case line, more := <-lines:
			if !more {
				return nil
			}
			data, err := json.Marshal(said{From: &name, Text: &line})
			if err != nil {
				return err
			}
			receipt, err := node.Publish(ctx, topic, data)
			if err != nil {
				return err
			}
			if receipt.Outcome == sidecar.PublishNoPeers {
				fmt.Println("(nobody else is connected yet)")
			}
		}
	}
}

// listen prints what others say, and where something was missed.
func listen(news *sidecar.Subscription, name, peerID string) error {
	for event, err := range news.Events() {
		if err != nil {
			return err
		}
		if event.Lagged != nil {
			fmt.Printf("(%v)\n", event.Lagged)
			continue
		}
		var heard said
		if json.Unmarshal(event.Message.Data, &heard) != nil || heard.From == nil || heard.Text == nil {
			continue // no chat message
		}
		if *heard.From != name || event.Message.Sender != peerID { // our own stands there already
			fmt.Printf("%s: %s\n", printable(*heard.From), printable(*heard.Text))
		}
	}
	return nil
}

// printable leaves out what could steer the terminal.
func printable(text string) string {
	return strings.Map(func(character rune) rune {
		if unicode.IsPrint(character) {
			return character
		}
		return '?'
	}, text)
}

// typed gives the lines of standard input that are not empty.
func typed(ctx context.Context) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			if line := strings.TrimSpace(strings.ToValidUTF8(input.Text(), "?")); line != "" {
				select {
				case lines <- line:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return lines
}
