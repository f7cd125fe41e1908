package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// childPrefix marks the first argument of the program's own processes.
const childPrefix = "child-"

// process is one of the program's own processes. The parent kills it with SIGKILL: it gets no chance to tidy up.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	mu    sync.Mutex // guards stdin
	ready chan string
	ended chan struct{}
}

// spawn starts a process. hear gets its events, one at a time.
func spawn(name, role string, args []string, hear func(event)) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, ready: make(chan string, 1), ended: make(chan struct{})}
	p.cmd = exec.Command(self, append([]string{childPrefix + role}, args...)...)
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(stdout, hear)
	return p, nil
}

func (p *process) listen(stdout io.Reader, hear func(event)) {
	defer close(p.ended)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the last line of a process that was killed may be cut
		}
		if e.Ready != "" {
			p.ready <- e.Ready
		}
		hear(e)
	}
	p.cmd.Wait()
}

func (p *process) send(c command) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.stdin).Encode(c); err != nil {
		return fmt.Errorf("process %s: %w", p.name, err)
	}
	return nil
}

// address waits until the process serves, and returns where.
func (p *process) address() (string, error) {
	select {
	case address := <-p.ready:
		return address, nil
	case <-p.ended:
		return "", fmt.Errorf("process %s ended before it served", p.name)
	case <-time.After(30 * time.Second):
		return "", fmt.Errorf("process %s does not serve after 30 s", p.name)
	}
}

// kill is SIGKILL; it returns when the process is gone.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// end lets a process end by itself, and kills it when it does not.
func (p *process) end() {
	p.mu.Lock()
	p.stdin.Close()
	p.mu.Unlock()
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
		p.kill()
	}
}

// child is the program as one of its own processes.
func child(role string, args []string) int {
	var err error
	switch t := newTeller(os.Stdin, os.Stdout); role {
	case childPrefix + "node":
		err = nodeProcess(t, args)
	case childPrefix + "naive":
		err = naiveProcess(t)
	case childPrefix + "ca":
		err = caProcess(t, args)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		json.NewEncoder(os.Stdout).Encode(event{Error: err.Error()})
		return 1
	}
	return 0
}

// teller is a process's end of the talk with its parent.
type teller struct {
	in  *json.Decoder
	mu  sync.Mutex // guards out
	out *json.Encoder
}

func newTeller(in io.Reader, out io.Writer) *teller {
	return &teller{in: json.NewDecoder(in), out: json.NewEncoder(out)}
}

func (t *teller) tell(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out.Encode(e) != nil {
		os.Exit(1) // the parent is gone
	}
}

// next waits for a command; io.EOF when the parent is gone.
func (t *teller) next() (command, error) {
	var c command
	err := t.in.Decode(&c)
	return c, err
}
