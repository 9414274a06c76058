package sidecar_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// A path is taken as it is: no letter of it means anything, and no byte is too odd.
func TestPathsOfAllKinds(t *testing.T) {
	for _, name := range []string{
		"per%41cent", "%", "%zz", "a b", " ", "what?", "#1", "a&b=c", "@", "@abstract", "a:b", "unix:", "tls:", "::1",
		"sch\u00f6n", "\U0001f600", "line\nbreak", "tab\t", "quote\"'", "back\\slash", "\xff\xfe", "a.sock.", "~", "$HOME", "*", ";", "[x]",
	} {
		f := newFake(t)
		directory := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(directory, 0o700); err != nil {
			t.Fatal(err)
		}
		f.path = directory + "/" + name
		if len(f.path) > 107 { // the name of the test's own folder is long
			t.Fatal(f.path)
		}
		f.start()
		for _, given := range []string{f.path, "unix:" + f.path, "unix://" + f.path} {
			node, err := sidecar.Connect(t.Context(), sidecar.WithTarget(given))
			if err != nil {
				t.Errorf("%q: %v", given, err)
				continue
			}
			if strings.ContainsAny(node.Target(), "\n\t") || !utf8.ValidString(node.Target()) {
				t.Errorf("%q is not one line of text", node.Target())
			}
			_ = node.Close()
		}
		t.Setenv("SIDECAR_API", f.path)
		node, err := sidecar.Connect(t.Context())
		if err != nil {
			t.Errorf("%q: %v", f.path, err)
			continue
		}
		_ = node.Close()
		t.Chdir(directory)
		t.Setenv("SIDECAR_API", "")
		if !strings.HasPrefix(name, "~") {
			t.Setenv("SIDECAR_API_SOCKET", name)
		} else {
			t.Setenv("SIDECAR_API_SOCKET", "./"+name)
		}
		if node, err = sidecar.Connect(t.Context()); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		_ = node.Close()
		t.Setenv("SIDECAR_API_SOCKET", "")
	}
	_, err := sidecar.Connect(t.Context(), sidecar.WithTarget("/a\x00b"))
	if failure := wantError(t, err, sidecar.ErrInvalidArgument); failure.Field != "target" || !strings.Contains(failure.Message, "NUL") {
		t.Error(err)
	}
}

func TestARelativePathOutlivesChdirAndRestart(t *testing.T) {
	f := started(t)
	t.Chdir(filepath.Dir(f.path))
	t.Setenv("SIDECAR_API", "unix:./api.sock")
	node := connected(t, f, sidecar.WithTarget(""))
	news, err := node.Subscribe(t.Context(), []string{"news"})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	f.restart()
	f.deliver("news", "after")
	for message, err := range news.Messages() {
		if err != nil || string(message.Data) != "after" {
			t.Fatal(string(message.Data), err)
		}
		break
	}
}

// The rule of docs/clients.md.
func TestWhereItLooks(t *testing.T) {
	runtime, temporary, home := t.TempDir(), t.TempDir(), t.TempDir()
	mine := "sidecar-" + strconv.Itoa(os.Getuid()) + "/api.sock"
	for _, row := range []struct {
		environment map[string]string
		wanted      string
	}{
		{map[string]string{"SIDECAR_API": "/a/b", "SIDECAR_API_SOCKET": "/c"}, "/a/b"},
		{map[string]string{"SIDECAR_API": "/a/b\r"}, "/a/b"},
		{map[string]string{"SIDECAR_API_SOCKET": "/c\r\n"}, "/c"},
		{map[string]string{"SIDECAR_API_SOCKET": "/a b "}, "/a b "},
		{map[string]string{"SIDECAR_API_SOCKET": "~/c"}, home + "/c"},
		{map[string]string{"XDG_RUNTIME_DIR": runtime, "TMPDIR": temporary}, runtime + "/sidecar/api.sock"},
		{map[string]string{"XDG_RUNTIME_DIR": runtime + "/", "TMPDIR": temporary}, runtime + "/sidecar/api.sock"},
		{map[string]string{"XDG_RUNTIME_DIR": "relative", "TMPDIR": temporary}, temporary + "/" + mine},
		{map[string]string{"TMPDIR": temporary + "/"}, temporary + "/" + mine},
		{map[string]string{"TMPDIR": temporary + "/missing"}, "/tmp/" + mine},
		{map[string]string{"TMPDIR": "relative"}, "/tmp/" + mine},
		{map[string]string{"TEMP": temporary, "TMP": temporary}, "/tmp/" + mine},
	} {
		for _, name := range []string{"SIDECAR_API", "SIDECAR_API_SOCKET", "XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP"} {
			t.Setenv(name, row.environment[name])
		}
		t.Setenv("HOME", home)
		found, err := sidecar.FindTarget("")
		if err != nil || found != "unix:"+row.wanted {
			t.Errorf("%q: %q %v, not %q", row.environment, found, err, row.wanted)
		}
	}
	for _, odd := range []string{"127.0.0.1:80 ", "127.0.0.1 :80x", " /a/b", "\r"} {
		t.Setenv("SIDECAR_API", odd+"x")
		_, err := sidecar.FindTarget("")
		failure := wantError(t, err, sidecar.ErrInvalidArgument)
		if failure.Field != "target" || !strings.Contains(failure.Message, "from SIDECAR_API") {
			t.Error(err)
		}
	}
}

func TestWithoutAHome(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("SIDECAR_API", "")
	if _, err := sidecar.FindTarget(""); err != nil {
		t.Error(err) // nobody needs one who names none
	}
	if found, err := sidecar.FindTarget("~/api.sock"); err == nil && strings.Contains(found, "~") {
		t.Error(found)
	} else if err != nil { // a user whom the system does not know
		if failure := wantError(t, err, sidecar.ErrInvalidArgument); !strings.Contains(failure.Message, "HOME is not set") {
			t.Error(err)
		}
	}
}

// ---------------------------------------------------------------- what passes

// The file with the token is away, and the sidecar is restarted.
func TestStreamsOutliveATokenFileThatIsAway(t *testing.T) {
	f := started(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := connected(t, f, sidecar.WithTokenFile(file))
	news, err := node.Subscribe(t.Context(), []string{"news"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.restart()
	f.deliver("news", "after")
	for message, err := range news.Messages() {
		if err != nil || string(message.Data) != "after" {
			t.Fatal(string(message.Data), err)
		}
		break
	}
}

// The socket's directory is away for a moment, and may not be entered for another.
func TestStreamsOutliveADirectoryThatIsAway(t *testing.T) {
	f := newFake(t)
	directory := filepath.Join(filepath.Dir(f.path), "d")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	f.path = filepath.Join(directory, "api.sock")
	f.start()
	node := connected(t, f)
	news, err := node.Subscribe(t.Context(), []string{"news"})
	if err != nil {
		t.Fatal(err)
	}
	f.server.Stop()
	if err := os.RemoveAll(directory); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // a call learns of the missing directory
	_, err = node.Info(ctx)
	cancel()
	wantError(t, err, sidecar.ErrSidecarUnavailable)
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	f.start()
	f.deliver("news", "after")
	for message, err := range news.Messages() {
		if err != nil || string(message.Data) != "after" {
			t.Fatal(string(message.Data), err)
		}
		break
	}
}

// A stream that has been in force is refused for a moment when it comes back: it is tried again. One that never was is not.
func TestRefusalsThatPass(t *testing.T) {
	for _, refusal := range []error{
		refused(codes.Unauthenticated, "UNAUTHENTICATED", "m", "", 0),
		refused(codes.ResourceExhausted, "RESOURCE_EXHAUSTED", "m", "", 0),
		refused(codes.AlreadyExists, "ALREADY_EXISTS", "m", "", 0),
	} {
		f := newFake(t)
		calls := 0
		f.receive = func(_ *pb.ReceiveRequest, stream pb.DirectService_ReceiveServer) error {
			switch calls++; calls {
			case 1:
				if err := inForce(stream); err != nil {
					return err
				}
				return refused(codes.Unavailable, "CLOSED", "going", "", 0)
			case 2, 3:
				return refusal
			}
			if err := inForce(stream); err != nil {
				return err
			}
			return stream.Send(&pb.ReceiveResponse{Messages: []*pb.DirectMessage{{Data: []byte("after")}}})
		}
		f.start()
		node := connected(t, f)
		receiver, err := node.Receive(t.Context(), []string{"/p/1"})
		if err != nil {
			t.Fatal(err)
		}
		for message, err := range receiver.Messages() {
			if err != nil || string(message.Data) != "after" {
				t.Fatal(refusal, err)
			}
			break
		}
		_ = receiver.Close()

		f.receive = func(*pb.ReceiveRequest, pb.DirectService_ReceiveServer) error { return refusal }
		if _, err = node.Receive(t.Context(), []string{"/p/1"}); err == nil || errors.Is(err, sidecar.ErrSidecarUnavailable) {
			t.Error(err)
		}
	}
}

// It does not go on for ever.
func TestARefusalThatStays(t *testing.T) {
	sidecar.SetForbearance(t, time.Millisecond)
	f := newFake(t)
	calls := 0
	f.receive = func(_ *pb.ReceiveRequest, stream pb.DirectService_ReceiveServer) error {
		if calls++; calls > 1 {
			return refused(codes.Unauthenticated, "UNAUTHENTICATED", "m", "", 0)
		}
		if err := inForce(stream); err != nil {
			return err
		}
		return refused(codes.Unavailable, "CLOSED", "going", "", 0)
	}
	f.start()
	receiver, err := connected(t, f).Receive(t.Context(), []string{"/p/1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range receiver.Messages() {
		wantError(t, err, sidecar.ErrUnauthenticated)
	}
}

// Authority and certificates are replaced, and away for a moment, while an app runs.
func TestTLSFilesThatAreReplaced(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "ca.pem")
	serving := func(port string) (*fake, string) {
		t.Helper()
		place := t.TempDir()
		authority, authorityFile, _ := certificate(t, place, "authority", nil)
		pair, _, _ := certificate(t, place, "localhost", &authority)
		f := newFake(t)
		f.options = []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}}))}
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		f.serveOn(listener)
		text, err := os.ReadFile(authorityFile)
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f, portOf(listener)
	}
	f, port := serving("0")
	node := connected(t, f, sidecar.WithTarget("tls://localhost:"+port), sidecar.WithTLSFiles(file, "", ""))
	news, err := node.Subscribe(t.Context(), []string{"news"})
	if err != nil {
		t.Fatal(err)
	}
	after := func(text string) {
		t.Helper()
		f.deliver("news", text)
		for message, err := range news.Messages() {
			if err != nil || string(message.Data) != text {
				t.Fatal(string(message.Data), err)
			}
			break
		}
	}
	f.server.Stop()
	f, _ = serving(port)
	after("another authority")

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.server.Stop()
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	f.serveOn(listener)
	after("no file")
}
