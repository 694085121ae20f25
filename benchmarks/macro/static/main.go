// A plain file server for benchmarks: the folder that it is given, on a loopback port of its choice.
// It prints the port and serves until it is ended. Nothing but Go's standard library.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	handler := http.StripPrefix("/maven2/", http.FileServer(http.Dir(os.Args[1])))
	fmt.Fprintln(os.Stderr, http.Serve(listener, handler))
	os.Exit(1)
}
