package dev.sfumato.demo

import dev.sfumato.core.Accelerator
import org.junit.Assert.assertEquals
import org.junit.Test

class DemoScreenTest {
    /** A drop-down menu: it shows what was tapped at once, and tells it. */
    private class Menu(private val tell: (Accelerator) -> Unit) {
        var shown = Accelerator.CPU

        fun tap(item: Accelerator) {
            shown = item
            tell(item)
        }
    }

    /** Frames that arrive between the tap and the next state render the state that has no choice yet. */
    @Test
    fun aDelegateChosenWhileFramesArriveStaysChosen() {
        var asked = Accelerator.CPU
        val menu = Menu { asked = it }
        val show = OnChange<Accelerator> { menu.shown = it }
        show(Accelerator.CPU)
        menu.tap(Accelerator.NNAPI)
        repeat(3) { show(Accelerator.CPU) }
        assertEquals(Accelerator.NNAPI, menu.shown)
        repeat(3) { show(asked) }
        assertEquals(Accelerator.NNAPI, menu.shown)
    }

    @Test
    fun whatTheModelKeepsLiesInTheMiddleOfThePicture() {
        val view = Place(0, 0, 400, 300)
        assertEquals(Place(0, 0, 400, 300), centred(Shape(480, 640), view))
        assertEquals(Place(87, 0, 312, 300), centred(Shape(640, 480), view)) // upright: 225 wide
        val upright = centred(Shape(640, 480), view)
        assertEquals(Place(87, 37, 312, 262), centred(Shape(64, 64), upright)) // the square that is kept, 225 each way
        assertEquals(Place(50, 0, 350, 300), centred(Shape(64, 64), view))
        assertEquals(Place(10, 25, 110, 75), centred(Shape(32, 64), Place(10, 0, 110, 100)))
    }

    /** Every pixel of the frame: in the middle, as Picture.fit crops it. */
    @Test
    fun theFrameOnTheScreenIsWhatIsCropped() {
        for ((height, width) in listOf(480 to 640, 640 to 480, 37 to 101, 64 to 64)) {
            val kept = centred(Shape(64, 64), Place(0, 0, width, height))
            val side = minOf(height, width)
            assertEquals(Place((width - side) / 2, (height - side) / 2, (width - side) / 2 + side, (height - side) / 2 + side), kept)
        }
    }

    @Test
    fun onlyAnotherValueIsShown() {
        val shown = mutableListOf<String>()
        val show = OnChange<String>(shown::add)
        for (text in listOf("", "", "a", "a", "")) show(text)
        assertEquals(listOf("", "a", ""), shown)
    }
}
