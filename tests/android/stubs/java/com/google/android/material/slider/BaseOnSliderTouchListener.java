package com.google.android.material.slider;

public interface BaseOnSliderTouchListener<S> {}
