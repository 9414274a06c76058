// The app in Go of the benchmark's rows: `app sidecar SOCKET` beside a sidecar, `app p2pd SOCKET` beside go-libp2p-daemon,
// with the same loops for both.
//
// Orders are JSON lines on standard input, each with an `id` and an `op`, as of bench/app.py; each is answered by a line
// with the same id. It ends when its input ends.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
)

const longest = 16 << 20 // bytes of an order

type object = map[string]any

type order struct {
	ID          int      `json:"id"`
	Op          string   `json:"op"`
	PeerID      string   `json:"peer_id"`
	Addresses   []string `json:"addresses"`
	Signed      bool     `json:"signed"`
	AckTo       string   `json:"ack_to"`
	Every       int      `json:"every"`
	Subscribers int      `json:"subscribers"`
	Size        int      `json:"size"`
	Count       int      `json:"count"`
	Window      int      `json:"window"`
	Rate        float64  `json:"rate"`
	InFlight    int      `json:"in_flight"`
	Send        int      `json:"send"`
	Receive     int      `json:"receive"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: app sidecar|p2pd SOCKET")
		os.Exit(2)
	}
	node, err := join(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer node.close()
	worker := newApp(node)
	ops := worker.ops()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longest)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		given := order{Subscribers: 1}
		err := json.Unmarshal(lines.Bytes(), &given)
		answer := object{}
		if err == nil {
			if op := ops[given.Op]; op != nil {
				var result object
				result, err = op(given)
				maps.Copy(answer, result)
			} else {
				err = fmt.Errorf("no op %q", given.Op)
			}
		}
		answer["id"], answer["ok"] = given.ID, err == nil
		if err != nil {
			answer["error"] = err.Error()
		}
		if answers.Encode(answer) != nil {
			return
		}
	}
}

func join(kind, socket string) (node, error) {
	switch kind {
	case "sidecar":
		return joinSidecar(socket)
	case "p2pd":
		return joinDaemon(socket)
	default:
		return nil, fmt.Errorf("no node %q", kind)
	}
}
