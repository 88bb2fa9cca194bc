"""What the API server asks us: conversion between the versions of our kinds, and admission.

A process of its own (`hosted-cp webhook`), because an operator that is down, syncing or crash-looping must not keep
anybody from reading objects. It holds no caches and knows no leader, and conversion and admission are answered from
the question alone: the only thing that it asks an API server for are its own certificates.
"""
