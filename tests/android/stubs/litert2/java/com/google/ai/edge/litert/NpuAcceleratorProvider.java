package com.google.ai.edge.litert;

public interface NpuAcceleratorProvider {}
