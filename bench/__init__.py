"""What a token, a stream, a request and an idle stream cost the server: `python -m bench`. See README.md."""
