package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// running holds the nodes of the scripts, which run at the same time, by
// configuration: path → *scriptNode.
var running sync.Map

// scriptNode is one directd that a script started.
type scriptNode struct {
	cmd  *exec.Cmd
	once sync.Once
	err  error
}

func launch(path, config string) (*scriptNode, error) {
	program := "directd"
	for _, dir := range filepath.SplitList(path) {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			program = filepath.Join(dir, program)
			break
		}
	}
	cmd := exec.Command(program, "--config", config)
	return &scriptNode{cmd: cmd}, cmd.Start()
}

// end drains the node; it may be called again.
func (n *scriptNode) end() error {
	n.once.Do(func() {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		n.err = n.cmd.Wait()
	})
	return n.err
}
