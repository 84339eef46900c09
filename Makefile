# Everything sets up what it needs by itself: see scripts/. `make` alone says what there is.
PYTHON ?= python3
ARGS ?=

# Debian package and a program of it, for each real client that the tests drive.
CLIENTS := vdeplug:vde_plug vde-switch:vde_switch vde-wirefilter:wirefilter vdens:vdens openssh-server:sshd \
	openssh-client:ssh iproute2:ip iputils-ping:ping iperf3:iperf3 tcpdump:tcpdump tshark:tshark curl:curl procps:ps \
	qemu-system-x86:qemu-system-x86_64 seabios:/usr/share/seabios/bios-256k.bin busybox-static:busybox cpio:cpio \
	chromium:chromium fonts-dejavu-core:/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf

.PHONY: help run test check format bench bench-handoff demo screenshots lock clean venv venv-dev clients

help:
	@echo 'make run [ARGS="..."]  set up whatever is missing and run the service (vde-multilink serve ARGS)'
	@echo 'make test              set up whatever is missing, real VDE clients included; check, and run every test'
	@echo 'make check             ruff, ruff format and mypy'
	@echo 'make format            let ruff lay out the code'
	@echo 'make bench             compare with the C peers, side by side'
	@echo 'make bench-handoff     compare hand-offs with those of the C tools, side by side'
	@echo 'make demo [ARGS=--keep] the whole story in under a minute, without root'
	@echo 'make screenshots       pictures of the dashboard, from a service under real traffic, into docs/'
	@echo 'make lock [UPGRADE=1]  write the lock files from the ranges in pyproject.toml'
	@echo 'make clean             remove what make has made'
	@echo 'PYTHON=python3.12 chooses the Python.'

venv:
	@scripts/venv.sh .venv $(PYTHON) requirements.lock

venv-dev:
	@scripts/venv.sh .venv $(PYTHON) requirements-dev.lock

clients:
	@PYTHON=$(PYTHON) scripts/apt-need.sh --or-go-on python3-venv:import=ensurepip $(CLIENTS)

run: venv
	@exec .venv/bin/vde-multilink serve $(ARGS)

check: venv-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: venv-dev
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

test: clients check
	@scripts/test.sh $(PYTHON)

bench: clients venv-dev
	@scripts/apt-need.sh gcc:gcc libc6-dev:/usr/include/stdio.h
	.venv/bin/python -m bench $(ARGS)

bench-handoff: clients venv-dev
	@scripts/apt-need.sh gcc:gcc libc6-dev:/usr/include/stdio.h
	.venv/bin/python -m bench.handoff $(ARGS)

demo: clients venv
	@exec .venv/bin/python scripts/demo.py $(ARGS)

screenshots: clients venv-dev
	@.venv/bin/python scripts/screenshots.py

lock: venv-dev
	scripts/lock.sh

clean:
	rm -rf .venv* .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis bench/results
	find app tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
